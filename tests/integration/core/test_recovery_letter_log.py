"""The dead letters as the reconciler reads them, on a real PostgreSQL."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from integration.core.log_builder import LogWorld, accepted, malformed

from sred.email.v1.stream_message_pb2 import EmailContent, EmailStreamMessage
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.recovery_letters import OpenLetter, RecoveryLetterLog, in_loads
from sred_email_core.queue.codec import encode_raw_entry

CONTENT = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hello", html="<p>x</p>")
MESSAGE = CONTENT.SerializeToString()
LARGE = EmailContent(html="x" * 70_000).SerializeToString()
MINUTE = timedelta(minutes=1)
ALL = 1000


@pytest.fixture
def letters(world_of_log: LogWorld) -> RecoveryLetterLog:
    """The dead letters."""
    return RecoveryLetterLog(world_of_log.pool)


async def accept(world: LogWorld, count: int = 1, **fields: Any) -> list[str]:
    """New emails that can be read; their ids, in order."""
    return sorted(await world.accept(count, **{"message": MESSAGE, **fields}))


async def page(letters: RecoveryLetterLog, after: OpenLetter | None = None, size: int = ALL) -> list[OpenLetter]:
    return await letters.open_page(after, size=size)


async def fields_of(letters: RecoveryLetterLog, letter_id: str) -> dict[bytes, bytes]:
    """What the DLQ shows of an open letter."""
    (letter,) = [letter for letter in await page(letters) if str(letter.id) == letter_id]
    ((shown_id, fields),) = await letters.load([letter])
    assert shown_id == letter_id
    return fields


async def test_open_letters_come_oldest_first_in_pages(world_of_log: LogWorld, letters: RecoveryLetterLog) -> None:
    ids = [(await world_of_log.rejected())[1] for _ in range(3)]
    first = await page(letters, size=2)
    assert [str(letter.id) for letter in first] == ids[:2]
    assert [str(letter.id) for letter in await page(letters, first[-1], size=2)] == ids[2:]
    assert [str(i) for i, _ in await letters.load(await page(letters))] == ids


async def test_a_letter_shows_its_email_as_it_travelled(world_of_log: LogWorld, letters: RecoveryLetterLog) -> None:
    (email_id,) = await accept(world_of_log)
    _, letter_id = await world_of_log.rejected(email_id)
    fields = await fields_of(letters, letter_id)
    message = EmailStreamMessage.FromString(fields.pop(b"message"))
    assert (message.email_id, message.content) == (email_id, CONTENT)
    assert fields == {
        b"email_id": email_id.encode(),
        b"reason": b"REJECTED",
        b"error": b"what the provider said",
        b"attempts": b"1",
        b"dead_letter_id": letter_id.encode(),
    }


@pytest.mark.parametrize("message", [LARGE, None])
async def test_a_letter_whose_content_is_large_or_gone_says_that_the_log_has_it(
    world_of_log: LogWorld, letters: RecoveryLetterLog, message: bytes | None
) -> None:
    email_id, letter_id = await world_of_log.rejected()
    await world_of_log.pool.execute("UPDATE email_send_log SET message = $1", message)
    shown = EmailStreamMessage.FromString((await fields_of(letters, letter_id))[b"message"])
    assert (shown.email_id, shown.WhichOneof("body")) == (email_id, "stored")


async def test_a_malformed_entry_is_shown_whole(world_of_log: LogWorld, letters: RecoveryLetterLog) -> None:
    pairs = [(b"email_id", b"\xff"), (b"message", b"\x00\x01"), (b"", b""), (b"\xfe", b"x")]
    entry = malformed(raw_entry=encode_raw_entry("sred:email:send", "1-1", pairs))
    letter_id = await world_of_log.log.record_malformed(entry)
    assert await fields_of(letters, letter_id) == {
        b"email_id": b"\xff",
        b"message": b"\x00\x01",
        b"raw:": b"",
        b"raw:\xfe": b"x",
        b"reason": b"MALFORMED",
        b"error": b"no email",
        b"dead_letter_id": letter_id.encode(),
    }


async def test_a_malformed_entry_of_many_fields_is_shown_in_one(
    world_of_log: LogWorld, letters: RecoveryLetterLog
) -> None:
    raw = encode_raw_entry("sred:email:send", "1-1", [(b"%d" % n, b"") for n in range(101)])
    letter_id = await world_of_log.log.record_malformed(malformed(raw_entry=raw))
    fields = await fields_of(letters, letter_id)
    assert fields[b"raw_entry"] == raw
    assert len(fields) == 6


async def test_letters_of_emails_that_were_sent_after_all_are_resolved(
    world_of_log: LogWorld, letters: RecoveryLetterLog
) -> None:
    email_id, letter_id = await world_of_log.rejected()
    other_id, other_letter = await world_of_log.rejected()
    await world_of_log.change(email_id, "status = 'SUCCESS', message = NULL")
    assert [(str(letter.email_id), letter.delivered) for letter in await page(letters)] == [
        (email_id, True),
        (other_id, False),
    ]
    assert await letters.resolve_delivered([uuid.UUID(email_id), uuid.UUID(other_id)]) == [letter_id]
    assert (await world_of_log.letter(letter_id))["resolution"] == "DELIVERED"
    assert [str(letter.id) for letter in await page(letters)] == [other_letter]


async def test_resolved_and_unknown_letters_are_not_open(world_of_log: LogWorld, letters: RecoveryLetterLog) -> None:
    claim = await world_of_log.claimed(*await accept(world_of_log))
    email_id = claim.send_id.rsplit(".", 1)[0]
    resolved = (await world_of_log.fail(claim, FailureAction.BURY))[email_id]
    assert resolved is not None
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    _, still_open = await world_of_log.rejected()
    unknown = str(uuid.uuid4())
    assert sorted(await letters.resolved([resolved, still_open, unknown])) == sorted([resolved, unknown])


async def test_what_cannot_be_read_is_shown_as_it_is_kept(world_of_log: LogWorld, letters: RecoveryLetterLog) -> None:
    raw_letter = await world_of_log.log.record_malformed(malformed(raw_entry=b"\xff"))
    email_id, letter = await world_of_log.rejected((await accept(world_of_log, message=b"\xff"))[0])
    with structlog.testing.capture_logs() as logs:
        assert (await fields_of(letters, raw_letter))[b"raw_entry"] == b"\xff"
        shown = EmailStreamMessage.FromString((await fields_of(letters, letter))[b"message"])
    assert (shown.email_id, shown.WhichOneof("body")) == (email_id, "stored")
    assert [(entry["event"], entry["email_id"]) for entry in logs] == [("content_unreadable", email_id)]


def test_letters_are_loaded_by_number_and_by_size() -> None:
    def of_size(size_bytes: int) -> OpenLetter:
        return OpenLetter(uuid.uuid4(), None, datetime.now(UTC), delivered=False, size_bytes=size_bytes)

    mega = 1024 * 1024
    assert [len(load) for load in in_loads([of_size(1)] * 250)] == [100, 100, 50]
    assert [len(load) for load in in_loads([of_size(3 * mega)] * 5)] == [2, 2, 1]
    assert [len(load) for load in in_loads([of_size(1), of_size(100 * mega), of_size(1)])] == [1, 1, 1]
    assert list(in_loads([])) == []
