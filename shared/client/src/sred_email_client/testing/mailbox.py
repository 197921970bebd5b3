"""The service behind the fakes, in memory: what was accepted, and what a test makes of it."""

import threading
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import (
    GetEmailRequest,
    SendEmailRequest,
    SendEmailResponse,
    WatchEmailsRequest,
    WatchEmailsResponse,
)
from sred_email_client.emails import DeliveryState, EmailStatus, OutgoingEmail
from sred_email_client.errors import (
    EmailError,
    EmailNotFoundError,
    FailedPreconditionError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
)
from sred_email_client.testing.messages import content_of, default_priority, event_of, outgoing_of, response_of
from sred_email_client.testing.rules import check, check_times

DEFAULT_FROM = "Default <default@example.com>"


@dataclass(slots=True)
class _Accepted:
    request: SendEmailRequest
    email: email_pb2.Email


class FakeMailbox:
    """Accepts emails by the rules of the service, as far as a caller's tests meet them, and sends none.

    A fake client has one of its own; give the same one to several to let them share it.
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._by_key: dict[str, _Accepted] = {}
        self._by_id: dict[str, _Accepted] = {}
        self._events: list[WatchEmailsResponse] = []
        self._listeners: list[Callable[[], object]] = []
        self._failure: EmailError | None = None
        self._failures_left: int | None = None

    @property
    def sent(self) -> list[OutgoingEmail]:
        """Every email that was accepted, once each, the oldest first; recipients are tuples, kinds ``EmailKind``."""
        with self._lock:
            return [outgoing_of(accepted.request) for accepted in self._by_key.values()]

    def fail(self, error: EmailError, *, times: int | None = None) -> None:
        """Let calls end with an error, and change nothing.

        Args:
            error: Such as ``UnavailableError("away")``. It is what the caller sees: the fake repeats nothing.
            times: So many calls, each email of ``send_many`` being one; None: all, until ``recover``.
        """
        with self._lock:
            self._failure, self._failures_left = error, times

    def recover(self) -> None:
        """Let calls succeed again."""
        with self._lock:
            self._failure = None

    def end(
        self,
        email_id: str,
        status: EmailStatus = EmailStatus.SUCCESS,
        *,
        delivery: DeliveryState | None = None,
        reason: str = "",
    ) -> None:
        """Let something happen to an email, as the service would tell of it.

        Args:
            email_id: Which email.
            status: Its status from now on.
            delivery: What the provider says; None: SENT if the status is SUCCESS, otherwise nothing.
            reason: Why.

        Raises:
            EmailNotFoundError: There is no such email.
        """
        with self._lock:
            email = self._find(email_id).email
            email.status = email_pb2.EmailStatus.Value(f"EMAIL_STATUS_{status}")
            email.last_error = reason
            if status is EmailStatus.SUCCESS:
                email.provider_message_id = email.provider_message_id or str(uuid.uuid4())
                email.sent_at.CopyFrom(_now())
                delivery = delivery or DeliveryState.SENT
            if delivery is not None:
                email.delivery = email_pb2.DeliveryState.Value(f"DELIVERY_STATE_{delivery}")
            self._tell(email, reason)

    def raise_failure(self) -> None:
        """Raise what a test asked for, if it did.

        Raises:
            EmailError: That error.
        """
        with self._lock:
            if self._failure is None or self._failures_left == 0:
                return
            if self._failures_left is not None:
                self._failures_left -= 1
            raise self._failure

    def accept(self, request: SendEmailRequest) -> SendEmailResponse:
        """Accept one email, or return the first of its key.

        Raises:
            InvalidRequestError: Fields are bad.
            IdempotencyKeyReusedError: The key belongs to an email with other content.
        """
        check(request)
        with self._lock:
            first = self._by_key.get(request.idempotency_key)
            if first is not None and content_of(first.request) != content_of(request):
                raise IdempotencyKeyReusedError(
                    f"the idempotency key belongs to email {first.email.email_id}, whose content differs: "
                    "use a new key for a new email",
                    first.email.email_id,
                )
            if first is None:
                check_times(request)
            return response_of((first or self._store(request)).email, deduplicated=first is not None)

    def get(self, request: GetEmailRequest) -> email_pb2.Email:
        """Find one email.

        Raises:
            InvalidRequestError: The id is no UUID.
            EmailNotFoundError: There is no such email.
        """
        with self._lock:
            if request.WhichOneof("lookup") == "idempotency_key":
                accepted = self._by_key.get(request.idempotency_key)
                if accepted is None:
                    raise EmailNotFoundError("there is no email with this idempotency key")
                return accepted.email
            return self._find(request.email_id).email

    def cancel(self, email_id: str) -> email_pb2.Email:
        """Cancel an email.

        Raises:
            InvalidRequestError: The id is no UUID.
            EmailNotFoundError: There is no such email.
            FailedPreconditionError: It is being sent or has ended.
        """
        with self._lock:
            email = self._find(email_id).email
            status = EmailStatus(email_pb2.EmailStatus.Name(email.status).removeprefix("EMAIL_STATUS_"))
            if status is EmailStatus.SENDING:
                raise FailedPreconditionError(
                    f"email {email_id} is being sent now: it can't be cancelled", "BEING_SENT"
                )
            if status.has_ended:
                message = f"email {email_id} has already ended as {status}: it can't be cancelled"
                raise FailedPreconditionError(message, "HAS_ENDED")
            self.end(email_id, EmailStatus.CANCELLED)
            return email

    def begin_watch(self, request: WatchEmailsRequest) -> tuple[list[WatchEmailsResponse], int]:
        """Begin a watch.

        Returns:
            What comes first, and how many events there are before those that come next.

        Raises:
            InvalidRequestError: An id is no UUID, or the token is none of this mailbox.
            EmailNotFoundError: One of the emails does not exist.
        """
        with self._lock:
            emails = [self._find(email_id).email for email_id in request.email_ids]
            if request.resume_token:
                if not request.resume_token.isdecimal() or int(request.resume_token) > len(self._events):
                    raise _bad("resume_token", "is no token of this service")
                return [], int(request.resume_token)
            return [event_of(email, "", str(len(self._events))) for email in emails], len(self._events)

    def events_after(self, count: int, email_ids: frozenset[str]) -> Iterator[WatchEmailsResponse]:
        """Events of these emails (none named: of all), but for the first so many of all."""
        with self._lock:
            events = self._events[count:]
        return (each for each in events if not email_ids or each.event.email_id in email_ids)

    @property
    def event_count(self) -> int:
        """How many events there are."""
        return len(self._events)

    def listen(self, notify: Callable[[], object]) -> Callable[[], None]:
        """Call ``notify`` at each event; what is returned ends that."""
        with self._lock:
            self._listeners.append(notify)
        return lambda: self._listeners.remove(notify)

    def _find(self, email_id: str) -> _Accepted:
        try:
            canonical = str(uuid.UUID(email_id))
        except ValueError as error:
            raise _bad("email_id", "must be a UUID") from error
        if canonical not in self._by_id:
            raise EmailNotFoundError(f"there is no email {email_id}")
        return self._by_id[canonical]

    def _store(self, request: SendEmailRequest) -> _Accepted:
        now = _now()
        scheduled = request.send_at.ToDatetime(UTC) > now.ToDatetime(UTC)
        email = email_pb2.Email(
            email_id=str(uuid.uuid4()),
            idempotency_key=request.idempotency_key,
            kind=request.kind,
            priority=request.priority or default_priority(request.kind),
            from_address=request.from_address or DEFAULT_FROM,
            to=request.to,
            subject=request.inline.subject or request.template.template_id,
            status=email_pb2.EMAIL_STATUS_SCHEDULED if scheduled else email_pb2.EMAIL_STATUS_QUEUED,
            created_at=now,
            updated_at=now,
            send_at=request.send_at if request.HasField("send_at") else None,
            expire_at=request.expire_at if request.HasField("expire_at") else None,
            next_attempt_at=request.send_at if scheduled else None,
        )
        accepted = _Accepted(request, email)
        self._by_key[request.idempotency_key] = self._by_id[email.email_id] = accepted
        self._tell(email, "")
        return accepted

    def _tell(self, email: email_pb2.Email, reason: str) -> None:
        email.updated_at.CopyFrom(_now())
        if EmailStatus(email_pb2.EmailStatus.Name(email.status).removeprefix("EMAIL_STATUS_")).has_ended:
            email.ClearField("next_attempt_at")
        if email.status != email_pb2.EMAIL_STATUS_SENDING:  # a state, but no event
            self._events.append(event_of(email, reason, str(len(self._events) + 1)))
        for notify in list(self._listeners):
            notify()


def _bad(field: str, description: str) -> InvalidRequestError:
    return InvalidRequestError(f"1 field is bad: {field}", [FieldViolation(field, description)])


def _now() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC))
    return stamp
