"""What goes into the log and comes out of it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import NamedTuple

SCHEDULED_IN_REDIS = timedelta(hours=1)
"""An email is in Redis for no longer than this before its scheduled time; until then PostgreSQL alone knows of it: the
memory of Redis is for what is about to be sent."""


class NewEmail(NamedTuple):
    """An email that a caller offers; its fields are in the order of the parameters of accept_emails.

    Attributes:
        id: UUIDv7; it becomes the email's id if the key is free.
        idempotency_key: The caller's.
        fingerprint: Of the caller's request, 32 bytes.
        kind: Name of the EmailKind.
        priority: HIGH, NORMAL or LOW.
        from_address: As it will be sent.
        recipients: The addresses in "to".
        subject: As it will be sent.
        message: Serialized EmailContent: what is sent, frozen.
        expire_at: Not to be sent after this; None: what ``lifetime`` says.
        lifetime: From its acceptance or ``send_at``, on PostgreSQL's clock, until it expires; None: it never does.
        send_at: Not to be sent before this; None, or in the past: at once.
        caller: Whose token it came with; None: authentication is off.
        traceparent: W3C trace context of its acceptance; None: it belongs to no trace.
    """

    id: uuid.UUID
    idempotency_key: str
    fingerprint: bytes
    kind: str
    priority: str
    from_address: str
    recipients: list[str]
    subject: str
    message: bytes
    expire_at: datetime | None = None
    lifetime: timedelta | None = None
    send_at: datetime | None = None
    caller: str | None = None
    traceparent: str | None = None


class WrittenEmail(NamedTuple):
    """What the log made of an email.

    Attributes:
        created_at: When it was accepted.
        expire_at: When it expires; None: never.
        delay: Until its scheduled time; None: it is due at once.
    """

    created_at: datetime
    expire_at: datetime | None
    delay: timedelta | None = None


@dataclass(frozen=True, slots=True)
class HeldKey:
    """The email that holds an idempotency key.

    Attributes:
        alone: It must not share a batch.
        message: Only while the email waits to be taken, or is due within ``SCHEDULED_IN_REDIS``.
        delay: Until its scheduled time.
        traceparent: W3C trace context of its acceptance.
    """

    id: uuid.UUID
    idempotency_key: str
    fingerprint: bytes
    kind: str
    priority: str
    status: str
    created_at: datetime
    expire_at: datetime | None
    alone: bool
    message: bytes | None
    delay: timedelta = timedelta()
    traceparent: str | None = None


@dataclass(frozen=True, slots=True)
class EmailRecord:
    """A row of the log, as callers may see it."""

    id: uuid.UUID
    idempotency_key: str
    kind: str
    priority: str
    from_address: str
    recipients: list[str]
    subject: str
    status: str
    attempts: int
    last_error: str | None
    provider_message_id: str | None
    delivery: str | None
    created_at: datetime
    send_at: datetime | None
    expire_at: datetime | None
    sent_at: datetime | None
    updated_at: datetime
    next_attempt_at: datetime | None
    caller: str | None


@dataclass(frozen=True, slots=True)
class SendShape:
    """Everything that shapes the body of a send, besides its emails.

    Attributes:
        endpoint: Path of the provider's API.
        serializer_version: Which serializer made the body.
        redirect_to: Address that all emails go to instead of their recipients; None: no redirect.
        configured_headers: Headers added by configuration, as they were serialized; None: none.
    """

    endpoint: str
    serializer_version: int
    redirect_to: str | None = None
    configured_headers: bytes | None = None


@dataclass(frozen=True, slots=True)
class NewSend:
    """A send that a consumer wants to make of emails that are free.

    Attributes:
        email_ids: Its members, in order.
        shape: What shapes its body.
        body_sha256: Of the body, 32 bytes.
        send_id: Its Idempotency-Key; None for a lone email, whose key is made of its id and generation.
        left_out: For emails whose body leaves out recipients: which, by their places in to, cc and bcc taken together.
    """

    email_ids: tuple[str, ...]
    shape: SendShape
    body_sha256: bytes
    send_id: str | None = None
    left_out: Mapping[str, tuple[int, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where an email stands in the log: why it can't be claimed, and what is to become of its place in Redis.

    Attributes:
        status: Of the email; None: there is no such email.
        ended: It needs nothing more.
        expired: It is open, and has expired.
        first_of_open_send: First email of the open send that it is in; None: it is in none.
        wait: Until that send's lease is free and the next attempt is due.
        attempts: That counted.
        dead_letter: Its open dead letter, where it was looked for.
    """

    status: str | None
    ended: bool
    expired: bool
    first_of_open_send: str | None
    wait: timedelta
    attempts: int = 0
    dead_letter: "DeadLetter | None" = None


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """Id, reason (name of the DeadLetterReason) and error of an open dead letter."""

    id: str
    reason: str
    error: str


@dataclass(frozen=True, slots=True)
class Claim:
    """A lease on a send, taken right before its POST.

    Attributes:
        send_id: The Idempotency-Key.
        fence: Number of this claim; what is recorded under an older one is ignored.
        attempts: Of the email with the most, before this request.
        requests_begun: Counting this one.
        requests_refused: Before this one.
        owners: Owners so far whose lease was not given back.
        expires_in: Until the first of its emails expires; None: none does. Known of new sends.
    """

    send_id: str
    fence: int
    attempts: int
    requests_begun: int = 1
    requests_refused: int = 0
    owners: int = 1
    expires_in: timedelta | None = None

    @property
    def maybe_accepted_before(self) -> bool:
        """Whether an earlier request under this key may have been accepted."""
        return self.requests_begun - 1 > self.requests_refused or self.owners > 1


@dataclass(frozen=True, slots=True)
class Member:
    """An email of a send that is to be repeated.

    Attributes:
        message: Serialized EmailContent; None: it is gone, which only ends with its send.
        left_out: Recipients that its send leaves out, by their places in to, cc and bcc taken together.
        send_at: What it was scheduled for; None: it was not.
        traceparent: W3C trace context of its acceptance; None: it belongs to no trace.
    """

    email_id: str
    kind: str
    priority: str
    status: str
    attempts: int
    created_at: datetime
    expire_at: datetime | None
    message: bytes | None
    left_out: tuple[int, ...] = ()
    send_at: datetime | None = None
    traceparent: str | None = None


class RepeatState(StrEnum):
    """What came of the wish to repeat a send."""

    CLAIMED = "CLAIMED"
    NOT_YET = "NOT_YET"
    PAST_HORIZON = "PAST_HORIZON"
    EXPIRED = "EXPIRED"
    GONE = "GONE"


@dataclass(frozen=True, slots=True)
class Repeat:
    """A send to be repeated, with the lease on it where it was free.

    Attributes:
        state: CLAIMED, PAST_HORIZON and EXPIRED (its one email has) hold the lease; NOT_YET: somebody else does, or the
            next attempt is not due; GONE: there is no such open send.
        claim: The lease, where it is held.
        shape: As the body was first made.
        body_sha256: Of the body as it was first made.
        members: In order.
        wait: NOT_YET: until asking again makes sense.
        deaths: Owners that died while they had it.
    """

    state: RepeatState
    claim: Claim | None = None
    shape: SendShape | None = None
    body_sha256: bytes = b""
    members: tuple[Member, ...] = field(default=())
    wait: timedelta = timedelta()
    deaths: int = 0


@dataclass(frozen=True, slots=True)
class AcceptedEmail:
    """An email that the provider has accepted."""

    email_id: str
    provider_message_id: str


@dataclass(frozen=True, slots=True)
class RefusedEmail:
    """An email that the provider refused within a batch that it accepted."""

    email_id: str
    error: str


@dataclass(frozen=True, slots=True)
class AnsweredSend:
    """What a 200 said about each email of a send: all of them, always."""

    send_id: str
    accepted: tuple[AcceptedEmail, ...]
    refused: tuple[RefusedEmail, ...] = ()


class FailureAction(StrEnum):
    """What becomes of a send whose request was not accepted; see record_failures.sql."""

    RETRY = "RETRY"
    RELEASE = "RELEASE"
    REJECT = "REJECT"
    BURY = "BURY"
    EXPIRE = "EXPIRE"


@dataclass(frozen=True, slots=True)
class FailedSend:
    """A request that was not accepted, and what is to become of its send.

    Attributes:
        claim: The lease under which it was made.
        refused: It was definitely refused; else its outcome is unknown.
        counted: It counts as an attempt.
        action: What becomes of the send.
        error: For people: what the provider said.
        delay: RETRY and RELEASE: until the next attempt.
        reason: REJECT and BURY: name of the DeadLetterReason.
        key_spent: The provider knows the key with other bytes.
        alone: RELEASE: its emails share no request any more.
    """

    claim: Claim
    refused: bool
    counted: bool
    action: FailureAction
    error: str
    delay: timedelta = timedelta()
    reason: str | None = None
    key_spent: bool = False
    alone: bool = False


@dataclass(frozen=True, slots=True)
class RecordedFailure:
    """What the log made of a failure.

    Attributes:
        action: What became of the send: never RELEASE or REJECT of one that may have been accepted.
        letters: The dead letter of each of its emails; None: it has none.
    """

    action: FailureAction
    letters: dict[str, str | None]


@dataclass(frozen=True, slots=True)
class MalformedEntry:
    """A stream entry that is no email.

    Attributes:
        error: Why not, for people.
        raw_entry: Serialized RawStreamEntry.
        fields_sha256: Of its fields: entries are told apart by what they hold.
        named_email_id: The email that it names, if it does.
    """

    id: uuid.UUID
    error: str
    raw_entry: bytes
    fields_sha256: bytes
    stream: str
    entry_id: str
    named_email_id: uuid.UUID | None = None


@dataclass(frozen=True, slots=True)
class DeadLetterRecord:
    """An open dead letter; kind, recipients and subject are its email's, None where it has none."""

    id: uuid.UUID
    email_id: uuid.UUID | None
    reason: str
    error: str
    error_group: str
    attempts: int
    failed_at: datetime
    may_have_been_accepted: bool
    repeatable_until: datetime | None
    kind: str | None
    recipients: list[str] | None
    subject: str | None


@dataclass(frozen=True, slots=True)
class LetterSelection:
    """Which open dead letters are to be worked on; all that is set must hold.

    Attributes:
        reason: Name of the DeadLetterReason; None: any.
        error_group: Of the group, whose reason is set, too; None: any.
        failed_until: Failed then or before; None: any.
        replay: What a replay takes: also what the recipient may have already, or not that; None: all.
    """

    reason: str | None = None
    error_group: str | None = None
    failed_until: datetime | None = None
    replay: bool | None = None


@dataclass(frozen=True, slots=True)
class LetterGroup:
    """Open dead letters with the same reason, and the same error but for addresses, ids and numbers.

    Attributes:
        letters: How many; with ``more``: at least.
        may_have_been_accepted: Whether that holds for any of those that were counted.
    """

    reason: str
    error_group: str
    letters: int
    more: bool
    may_have_been_accepted: bool
    oldest: datetime
    latest: datetime


@dataclass(frozen=True, slots=True)
class ReplayedEmail:
    """An email that a replay has reopened.

    Attributes:
        dead_letter_id: Of its letter; None: it was discarded, and is repeated because its send is.
        alone: It shares its request with no other.
        repeats: It is repeated within its send, same key and bytes; else it is sent anew.
        send_id: The send that it is repeated in.
        traceparent: W3C trace context of its acceptance.
    """

    email_id: str
    dead_letter_id: str | None
    kind: str
    priority: str
    created_at: datetime
    expire_at: datetime | None
    message: bytes
    alone: bool
    repeats: bool
    send_id: str | None
    traceparent: str | None = None
