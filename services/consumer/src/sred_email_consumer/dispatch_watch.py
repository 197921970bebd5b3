"""Watches what holds or slows delivery, for the health page and the metrics."""

from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.logs import mask_addresses
from sred_email_core.queue.stats import DispatchStatus, QueueInspector


class DispatchWatch:
    """A health check: delivery is not stopped by something that only people can mend."""

    def __init__(self, inspector: QueueInspector, metrics: ConsumerMetrics) -> None:
        self._inspector = inspector
        self._metrics = metrics
        self._status = DispatchStatus("RUNNING", "")

    async def __call__(self) -> None:
        """Look; return unless it is so.

        Raises:
            QueueUnavailableError: Redis does not answer.
            RuntimeError: The provider refuses us, whatever the email.
        """
        self._status = await self._inspector.read_dispatch()
        for state in self._metrics.DISPATCH_STATES:
            self._metrics.dispatch_state.labels(state).set(state == self._status.state)
        if self._status.state == "MISCONFIGURED":
            raise RuntimeError(mask_addresses(self._status.reason))

    def describe(self) -> dict[str, str]:
        """State and reason, as they were last seen; whatever an operator wrote, no address: anybody may read it."""
        return {"dispatch_state": self._status.state, "dispatch_reason": mask_addresses(self._status.reason)}
