"""Cancels emails: in the log, which decides, and then in Redis."""

import asyncio
from collections.abc import Sequence
from datetime import timedelta

import structlog

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.records import EmailRecord
from sred_email_core.errors import CancelObstacle, NotCancellableError, QueueUnavailableError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.scripts import QueueScripts
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.validation import parse_email_id

log = structlog.get_logger(__name__)


class EmailCancellation:
    """Cancels emails that nothing can have been sent of.

    What is cancelled in the log is never sent, whatever Redis still holds: its claim finds that it has ended. So Redis
    may be away; it is only freed of the email sooner if it is not.
    """

    def __init__(
        self, acceptance_log: AcceptanceLog, scripts: QueueScripts, metrics: IngressMetrics, *, patience: timedelta
    ) -> None:
        """Prepare.

        Args:
            acceptance_log: What decides.
            scripts: The queue.
            metrics: Where to count.
            patience: How long a call waits for Redis before it is answered without.
        """
        self._log = acceptance_log
        self._scripts = scripts
        self._metrics = metrics
        self._patience_s = patience.total_seconds()
        self._group: GroupCommit[str, None] = GroupCommit(self._remove, max_items=100, max_groups=1)

    async def cancel(self, email_id: str, deed: Deed | None = None) -> EmailRecord:
        """Cancel one email; what it is from then on.

        Args:
            email_id: As the caller has it.
            deed: What the audit says of it; None: nothing.

        Raises:
            InvalidRequestError: The id is no UUID.
            EmailNotFoundError: There is no such email.
            NotCancellableError: It is being sent, may have been accepted, or has ended; nothing was changed.
            LogUnavailableError: PostgreSQL does not answer. Whether it was cancelled, a repeated call tells.
        """
        parsed = parse_email_id(email_id)
        try:
            email = await self._log.cancel(parsed, deed)
        except NotCancellableError as e:
            if e.obstacle is CancelObstacle.HAS_ENDED and e.status == "CANCELLED":
                await self._take_out(str(parsed))  # the call that cancelled it may have died before it came to this
            raise
        self._metrics.cancelled.inc()
        log.info("email_cancelled", email_id=str(parsed))
        await self._take_out(str(parsed))
        return email

    async def drain(self) -> None:
        """Wait until nothing is under way."""
        await self._group.drain()

    async def _take_out(self, email_id: str) -> None:
        try:
            async with asyncio.timeout(self._patience_s):
                await self._group.submit(email_id)
        except (QueueUnavailableError, TimeoutError) as e:
            log.warning("removal_postponed", email_id=email_id, reason=str(e) or "no answer in time")

    async def _remove(self, email_ids: Sequence[str]) -> list[None]:
        await self._scripts.cancel(email_ids)
        return [None] * len(email_ids)
