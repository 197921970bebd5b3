"""Builds what receives and works webhooks."""

from dataclasses import dataclass
from typing import Any

import asyncpg
from prometheus_client import CollectorRegistry

from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.email_send_log.webhook_events import WebhookLog
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_core.tracing import Tracing
from sred_email_ingress.webhooks.metrics import WebhookMetrics
from sred_email_ingress.webhooks.receiver import WebhookReceiver
from sred_email_ingress.webhooks.signature import SignatureCheck
from sred_email_ingress.webhooks.worker import WebhookWorker


@dataclass(frozen=True, slots=True)
class Webhooks:
    """The door, and the loop behind it, which has not been started."""

    receiver: WebhookReceiver
    worker: WebhookWorker


def build_webhooks(
    secrets: tuple[str, ...],
    pool: "asyncpg.Pool[Any]",
    runner: ScriptRunner,
    keys: QueueKeys,
    registry: CollectorRegistry,
    tracing: Tracing | None = None,
) -> Webhooks:
    """Receive webhooks that are signed with one of these secrets.

    Args:
        secrets: ``whsec_…``, at least one.
        pool: Of the log.
        runner: Of the scripts.
        keys: Of the queue.
        registry: Where to count.
        tracing: Makes spans of what is told; None: nobody does.
    """
    webhook_log, metrics, tracing = WebhookLog(pool), WebhookMetrics(registry), tracing or Tracing()
    receiver = WebhookReceiver(SignatureCheck(secrets), webhook_log, metrics, tracing)
    copy = SuppressionCopy(SuppressionLog(pool), runner, keys)
    scripts, arrived = QueueScripts(runner, keys), receiver.arrived
    return Webhooks(receiver, WebhookWorker(webhook_log, scripts, copy, metrics, arrived, tracing))
