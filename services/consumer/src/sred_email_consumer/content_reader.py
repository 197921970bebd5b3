"""The contents of emails that are about to be sent: from their entries or the log, decrypted where they must be."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from google.protobuf.message import DecodeError

from sred_email_consumer.sends import Passenger
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import Member
from sred_email_core.encryption.envelope import unseal
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_core.errors import KeyMissingError, UnreadableContentError
from sred_email_core.queue.codec import QueuedEmail

_UNREADABLE = "its content in the log can't be read"


@dataclass(frozen=True, slots=True)
class Read:
    """Emails whose contents were looked for.

    Attributes:
        complete: With their contents.
        unreadable: What is wrong with the content of each of these, by their ids.
        gone: Without a content any more; the unreadable ones among them.
    """

    complete: list[Passenger] = field(default_factory=list)
    unreadable: dict[str, str] = field(default_factory=dict)
    gone: list[Passenger] = field(default_factory=list)


class ContentReader:
    """Reads what emails say. Nothing is changed by it."""

    def __init__(self, delivery_log: DeliveryLog, keys: KeyRingFile) -> None:
        self._log = delivery_log
        self._keys = keys

    async def read(self, passengers: Iterable[Passenger]) -> Read:
        """Find the contents of emails.

        What an entry holds that can't be decrypted is looked for in the log, which is the truth.

        Raises:
            KeyMissingError: The log has content whose key is not here.
            LogUnavailableError: PostgreSQL does not answer.
        """
        read = Read()
        looked_for: list[Passenger] = []
        for passenger in passengers:
            try:
                email = self._opened(passenger.email)
            except (KeyMissingError, UnreadableContentError):
                looked_for.append(passenger)
                continue
            (looked_for if email.content is None else read.complete).append(replace(passenger, email=email))
        if looked_for:
            messages = await self._log.get_messages([p.email.email_id for p in looked_for])
            for passenger in looked_for:
                self._add(read, passenger, messages.get(passenger.email.email_id))
        return read

    def of_members(self, passengers: Iterable[Passenger]) -> tuple[Passenger, ...] | None:
        """The emails of a send with their contents; None: one of them can't be read.

        Raises:
            KeyMissingError: The key of one is not here.
        """
        try:
            return tuple(replace(p, email=self._opened(p.email)) for p in passengers)
        except UnreadableContentError:
            return None

    def _add(self, read: Read, passenger: Passenger, message: bytes | None) -> None:
        email = passenger.email
        if message is None:
            read.gone.append(passenger)
            return
        try:
            kept = self._opened(_with_message(email, message))
        except (DecodeError, UnreadableContentError) as e:
            read.unreadable[email.email_id] = str(e) if isinstance(e, UnreadableContentError) else _UNREADABLE
            read.gone.append(passenger)
        else:
            read.complete.append(replace(passenger, email=kept))

    def _opened(self, email: QueuedEmail) -> QueuedEmail:
        if email.content is not None or email.encrypted is None:
            return email
        try:
            content = unseal(self._keys.ring, email.email_id, email.encrypted)
        except KeyMissingError:
            self._keys.refresh()  # it may have come this moment
            content = unseal(self._keys.ring, email.email_id, email.encrypted)
        return replace(email, content=content)


def queued_member(member: Member) -> QueuedEmail:
    """An email of a send as the log has it; without content that can be read it has an empty one."""

    def of(message: bytes) -> QueuedEmail:
        return QueuedEmail.of_content(
            email_id=member.email_id,
            kind=member.kind,
            priority=member.priority,
            accepted_at=member.created_at,
            expire_at=member.expire_at,
            content=message,
            send_at=member.send_at,
            traceparent=member.traceparent,
        )

    try:
        return of(member.message or b"")
    except DecodeError:
        return of(b"")  # its body comes out different, and the send is given up


def _with_message(email: QueuedEmail, message: bytes) -> QueuedEmail:
    """An email with what the log keeps of it."""
    kept = QueuedEmail.of_content(
        email_id=email.email_id,
        kind=email.kind,
        priority=email.lane.name,
        accepted_at=email.accepted_at,
        expire_at=email.expire_at,
        content=message,
    )
    return replace(email, content=kept.content, encrypted=kept.encrypted)
