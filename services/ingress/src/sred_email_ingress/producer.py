"""Puts accepted emails on their streams."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.metrics import IngressMetrics

log = structlog.get_logger(__name__)


class RedisEmailStreamProducer:
    """Publishes emails that have no place in Redis yet; emails that arrive together share one call.

    Publishing may fail or take too long: the email is accepted all the same, and stays open in the log.
    """

    def __init__(self, scripts: QueueScripts, metrics: IngressMetrics, *, patience: timedelta) -> None:
        """Prepare.

        Args:
            scripts: The queue.
            metrics: Where to count.
            patience: How long one email waits for Redis before its caller is answered without.
        """
        self._scripts = scripts
        self._metrics = metrics
        self._patience_s = patience.total_seconds()
        self._group: GroupCommit[QueuedEmail, None] = GroupCommit(
            self._publish, max_items=500, max_groups=4, weigh=lambda item: item.size_bytes, max_weight=4 * 1024 * 1024
        )

    async def publish(self, email: QueuedEmail) -> bool:
        """Put one email on its stream; whether that is known to have worked in time."""
        try:
            async with asyncio.timeout(self._patience_s):
                await self._group.submit(email)
        except (QueueUnavailableError, TimeoutError) as e:
            self._metrics.publish_failures.inc()
            log.warning("publish_postponed", email_id=email.email_id, reason=str(e) or "no answer in time")
            return False
        return True

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        await self._group.drain()

    async def _publish(self, emails: Sequence[QueuedEmail]) -> list[None]:
        published = await self._scripts.publish(emails)
        self._metrics.published.inc(published)
        return [None] * len(emails)
