"""What the ingress tells of itself in traces, by OpenTelemetry's conventions for messaging.

Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/
"""

from opentelemetry.trace import Span, SpanKind

from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.tracing import MESSAGING_SYSTEM, NO_SPAN, Tracing


class AcceptanceSpans:
    """One span for each email that a call offers: what delivers the email goes on from there."""

    def __init__(self, tracing: Tracing, keys: QueueKeys) -> None:
        """Prepare.

        Args:
            tracing: Makes the spans.
            keys: Of the queue.
        """
        self._tracing = tracing
        self._keys = keys

    def begin(self, kind: str, lane: Lane) -> Span:
        """The span of accepting one email, in the trace of its call.

        Args:
            kind: Name of the EmailKind.
            lane: That it travels on.
        """
        if not self._tracing.on:
            return NO_SPAN
        stream = self._keys.stream(lane)
        return self._tracing.begin(
            f"send {stream}",
            SpanKind.PRODUCER,
            {
                "messaging.system": MESSAGING_SYSTEM,
                "messaging.operation.name": "send",
                "messaging.operation.type": "send",
                "messaging.destination.name": stream,
                "sred.email.kind": kind,
            },
        )


def end(span: Span, outcome: str, email_id: str | None) -> None:
    """The email was accepted, or not.

    Args:
        span: Of accepting it.
        outcome: As the metrics count it.
        email_id: Of the email that its key stands for, which may be another call's; None: it was refused.
    """
    span.set_attribute("sred.email.outcome", outcome)
    if email_id is not None:
        span.set_attribute("messaging.message.id", email_id)
    if outcome not in {"accepted", "deduplicated"}:
        span.set_attribute("error.type", outcome)
    span.end()
