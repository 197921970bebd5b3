"""What delivery tells of itself in traces, by OpenTelemetry's conventions for messaging and HTTP.

Source: https://opentelemetry.io/docs/specs/semconv/messaging/messaging-spans/ ;
https://opentelemetry.io/docs/specs/semconv/http/http-spans/
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager

from opentelemetry import trace
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode
from yarl import URL

from sred_email_consumer.outcome import Accepted, Failure
from sred_email_consumer.sends import Passenger
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import GROUP, QueueKeys
from sred_email_core.tracing import MESSAGING_SYSTEM, NOTHING, Attributes, Tracing, context_of

MOST_LINKS = 100
"""As many as a request carries emails."""


class DeliverySpans:
    """One span for each attempt to send, whatever comes of it.

    That of a lone email goes on in the email's trace. That of several begins a trace of its own, with a link to that of
    each.
    """

    def __init__(self, tracing: Tracing, keys: QueueKeys, consumer: str) -> None:
        """Prepare.

        Args:
            tracing: Makes the spans.
            keys: Of the queue.
            consumer: Name of this one.
        """
        self._tracing = tracing
        self._keys = keys
        self._consumer = consumer

    def processing(self, passengers: Sequence[Passenger]) -> AbstractContextManager[Span]:
        """The span of working on these emails, from when they were taken until it is settled what became of them."""
        if not self._tracing.on or not passengers:
            return NOTHING
        emails = [passenger.email for passenger in passengers]
        contexts = [context_of(email.traceparent) for email in emails[:MOST_LINKS]]
        links = [
            Link(linked, {"messaging.message.id": email.email_id})
            for email, context in zip(emails, contexts, strict=False)
            if (linked := trace.get_current_span(context).get_span_context()).is_valid
        ]
        name, attributes = self._describe(emails)
        return self._tracing.span(
            name, SpanKind.CONSUMER, attributes, contexts[0] if len(emails) == 1 else context_of(None), links
        )

    def answered(self, answer: Accepted | Failure, *, attempt: int) -> None:
        """Tell in the span of working on it what came of a request.

        Args:
            answer: Of the provider, or that there was none.
            attempt: Of the email with the most, counting this one.
        """
        if not self._tracing.on:
            return
        outcome = "accepted" if isinstance(answer, Accepted) else answer.kind.name.lower()
        span = trace.get_current_span()
        span.set_attributes({"sred.email.attempt": attempt, "sred.email.outcome": outcome})
        if isinstance(answer, Failure):
            span.set_attribute("error.type", outcome)
            span.set_status(Status(StatusCode.ERROR))

    def _describe(self, emails: Sequence[QueuedEmail]) -> tuple[str, Attributes]:
        attributes: Attributes = {
            "messaging.system": MESSAGING_SYSTEM,
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.consumer.group.name": GROUP,
            "messaging.client.id": self._consumer,
        }
        if len(emails) == 1:
            attributes["messaging.message.id"] = emails[0].email_id
        else:
            attributes["messaging.batch.message_count"] = len(emails)
        streams = {self._keys.stream(email.lane) for email in emails}
        if len(streams) > 1:
            return "process", attributes
        attributes["messaging.destination.name"] = stream = streams.pop()
        return f"process {stream}", attributes


class RequestSpans:
    """One span for each request to the provider, within that of its attempt."""

    def __init__(self, tracing: Tracing, base_url: str) -> None:
        """Prepare.

        Args:
            tracing: Makes the spans.
            base_url: Of the provider's API.
        """
        self._tracing = tracing
        self._server: Attributes = {}
        if tracing.on:
            url = URL(base_url)
            self._server = {"server.address": url.host or "", "server.port": url.port or 0}

    def request(self, endpoint: str, repeats: int) -> AbstractContextManager[Span]:
        """The span of one request.

        Args:
            endpoint: Path of the API.
            repeats: How often the same was posted before.
        """
        if not self._tracing.on:
            return NOTHING
        attributes: Attributes = {
            **self._server,
            "http.request.method": "POST",
            "url.template": endpoint,
            **({"http.request.resend_count": repeats} if repeats else {}),
        }
        return self._tracing.span(f"POST {endpoint}", SpanKind.CLIENT, attributes)


def tell_status(span: Span, status: int) -> None:
    """What the provider answered."""
    span.set_attribute("http.response.status_code", status)
    if status >= 400:  # noqa: PLR2004 - from here on the provider refuses
        _tell_error(span, str(status))


def tell_no_answer(span: Span, error: BaseException) -> None:
    """That the provider gave none."""
    _tell_error(span, type(error).__name__)


def _tell_error(span: Span, kind: str) -> None:
    span.set_attribute("error.type", kind)
    span.set_status(Status(StatusCode.ERROR))
