"""The door for the provider's webhooks: an event is kept before it is answered, and worked afterwards."""

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import structlog
from aiohttp import web

from sred_email_core.email_send_log.webhook_events import WebhookEvent, WebhookLog
from sred_email_core.errors import RetryLaterError, UnstorableError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.tracing import Tracing, trace_ids_of
from sred_email_ingress.webhooks.metrics import WebhookMetrics
from sred_email_ingress.webhooks.resend_events import BadEventError, parse_event
from sred_email_ingress.webhooks.signature import ForgedError, SignatureCheck, UnsignedError

log = structlog.get_logger(__name__)

PATH = "/webhooks/resend"
MAX_BODY_BYTES = 256 * 1024
_PATIENCE_S = 5.0
"""With a body that trickles in, and with PostgreSQL: the provider repeats what is not answered."""
_TRACES_S = 0.5
"""For the names of traces: events that are stored already are answered, whatever else PostgreSQL is busy with."""


class _Stored(NamedTuple):
    """Whether an event was new, and the field of the log that names the trace of its email."""

    new: bool
    trace: dict[str, Any]


class WebhookReceiver:
    """Answers 200 when an event is in PostgreSQL, whether it came for the first time or again."""

    def __init__(
        self, check: SignatureCheck, webhook_log: WebhookLog, metrics: WebhookMetrics, tracing: Tracing
    ) -> None:
        self._tracing = tracing
        self._check = check
        self._log = webhook_log
        self._metrics = metrics
        self._group: GroupCommit[WebhookEvent, _Stored] = GroupCommit(self._store, max_items=100, max_groups=1)
        self.arrived = asyncio.Event()
        """Set when there is something to work."""

    @property
    def route(self) -> web.RouteDef:
        """Where it listens."""
        return web.post(PATH, self.receive)

    async def receive(self, request: web.Request) -> web.Response:
        """Answer one request of the provider: 200, or why not."""
        try:
            async with asyncio.timeout(_PATIENCE_S):
                body = await request.read()
        except web.HTTPRequestEntityTooLarge:
            return self._answer(413, "too_large", f"the body has more than {MAX_BODY_BYTES} bytes")
        except TimeoutError:
            return self._answer(408, "unusable", "the body did not come in time")
        try:
            svix_id = self._check.verify(request.headers, body)
        except UnsignedError as e:
            return self._answer(400, "forged", str(e))
        except ForgedError as e:
            return self._answer(401, "forged", str(e))
        try:
            event = parse_event(svix_id, body)
        except BadEventError as e:
            log.warning("webhook_unusable", svix_id=svix_id, reason=str(e))
            return self._answer(400, "unusable", f"the event {e}")
        return self._answer(200, "ignored") if event is None else await self._keep(event)

    async def drain(self) -> None:
        """Wait until nothing is being stored."""
        await self._group.drain()

    async def _keep(self, event: WebhookEvent) -> web.Response:
        try:
            async with asyncio.timeout(_PATIENCE_S):
                stored = await self._group.submit(event)
        except (RetryLaterError, TimeoutError) as e:
            log.warning("webhook_not_stored", svix_id=event.svix_id, reason=str(e) or "no answer in time")
            return self._answer(503, "unavailable", "not now; repeat it", {"Retry-After": "5"})
        except UnstorableError as e:
            log.warning("webhook_unusable", svix_id=event.svix_id, reason=str(e))
            return self._answer(400, "unusable", "the event can't be stored")
        if stored.new:
            self._metrics.told.labels(event.delivery).inc()
            email_id = str(event.email_id) if event.email_id else None
            log.info("delivery_told", email_id=email_id, delivery=event.delivery, svix_id=event.svix_id, **stored.trace)
        return self._answer(200, "stored" if stored.new else "duplicate")

    async def _store(self, events: Sequence[WebhookEvent]) -> list[_Stored]:
        news = await self._log.store(events)
        self.arrived.set()
        ids = [str(event.email_id) for event, new in zip(events, news, strict=True) if new and event.email_id]
        traceparents: dict[str, str] = {}
        if self._tracing.on and ids:
            with suppress(RetryLaterError, TimeoutError):  # they are stored, whether the log names their traces or not
                async with asyncio.timeout(_TRACES_S):
                    traceparents = await self._log.traceparents(ids)
        return [
            _Stored(new, trace_ids_of([traceparents.get(str(event.email_id))]))
            for event, new in zip(events, news, strict=True)
        ]

    def _answer(
        self, status: int, outcome: str, reason: str = "", headers: dict[str, str] | None = None
    ) -> web.Response:
        self._metrics.received.labels(outcome).inc()
        body = {"outcome": outcome, **({"reason": reason} if reason else {})}
        return web.json_response(body, status=status, headers=headers)
