"""What the DLQ shows of a dead letter."""

from google.protobuf.message import DecodeError

from sred.email.v1.stream_message_pb2 import RawStreamEntry
from sred_email_core.queue.codec import QueuedEmail, encode

_MOST_FIELDS = 100
"""Of an entry that was no email, told one by one; of more the DLQ shows the whole, as the log keeps it."""


def letter_of_email(
    email: QueuedEmail, *, dead_letter_id: str, reason: str, error: str, attempts: int
) -> dict[bytes, bytes]:
    """The DLQ entry of an email that was given up.

    Args:
        email: As it travelled.
        dead_letter_id: In the log.
        reason: Name of the DeadLetterReason.
        error: For people.
        attempts: That counted.
    """
    return {
        b"email_id": email.email_id.encode(),
        b"message": encode(email),
        b"reason": reason.encode(),
        b"error": error.encode(),
        b"attempts": str(attempts).encode(),
        b"dead_letter_id": dead_letter_id.encode(),
    }


def letter_of_entry(raw_entry: bytes, *, dead_letter_id: str, reason: str, error: str) -> dict[bytes, bytes]:
    """The DLQ entry of a stream entry that could not be used, with that entry as it is.

    Args:
        raw_entry: Serialized ``RawStreamEntry``, as the log keeps it.
        dead_letter_id: In the log.
        reason: Name of the DeadLetterReason.
        error: For people.
    """
    try:
        fields = {field.name: field.value for field in RawStreamEntry.FromString(raw_entry).fields}
    except DecodeError:  # written by another version: shown as it is kept
        fields = {}
    others = {b"raw:" + name: value for name, value in fields.items() if name not in (b"email_id", b"message")}
    return {
        b"email_id": fields.get(b"email_id", b""),
        b"message": fields.get(b"message", b""),
        b"reason": reason.encode(),
        b"error": error.encode(),
        b"dead_letter_id": dead_letter_id.encode(),
        **(others if fields and len(others) <= _MOST_FIELDS else {b"raw_entry": raw_entry}),
    }
