"""The reconciler holds the DLQ to the dead letters in the log."""

import uuid

import pytest
import structlog
from integration.core.log_builder import malformed
from integration.ingress.recovery_world import RecoveryWorld

from sred.email.v1.stream_message_pb2 import EmailStreamMessage
from sred_email_core.queue.codec import encode_raw_entry
from sred_email_ingress.recovery import letters as letters_module
from sred_email_ingress.recovery.passes import Mended


async def dead(recovery: RecoveryWorld, count: int = 1) -> list[str]:
    """Letters in the log that the DLQ does not show; their ids, oldest first."""
    return [(await recovery.log.rejected(email_id))[1] for email_id in await recovery.accept(count)]


async def dead_and_shown(recovery: RecoveryWorld, count: int = 1) -> list[str]:
    """The same, and shown."""
    letters = await dead(recovery, count)
    await rounds(recovery)
    assert await recovery.shown() == letters
    return letters


async def rounds(recovery: RecoveryWorld) -> dict[Mended, int]:
    """What is mended until everything was looked at: entries and index are looked at in turns."""
    return dict((await recovery.round()) + (await recovery.round()) + (await recovery.round()))


async def test_a_letter_whose_consumer_died_before_showing_it_is_shown(recovery: RecoveryWorld) -> None:
    letters = await dead(recovery, 3)
    assert await rounds(recovery) == {Mended.LETTERS_SHOWN: 3}
    assert await recovery.shown() == letters
    assert await rounds(recovery) == {}


async def test_a_letter_of_a_kind_of_another_version_holds_nobody_up(recovery: RecoveryWorld) -> None:
    emails = await recovery.accept(3)
    letters = [(await recovery.log.rejected(email_id))[1] for email_id in emails]
    await recovery.log.change(emails[1], "kind = 'OF_TOMORROW'")
    with structlog.testing.capture_logs() as logs:
        assert (await rounds(recovery))[Mended.LETTERS_SHOWN] == 2
    assert await recovery.shown() == [letters[0], letters[2]]
    assert {str(entry.get("dead_letter_ids")) for entry in logs if entry["log_level"] == "error"} == {
        f"['{letters[1]}']"
    }


async def test_a_letter_is_shown_as_the_consumer_shows_it(recovery: RecoveryWorld) -> None:
    await dead_and_shown(recovery)
    ((_, fields),) = await recovery.redis.xrange(recovery.keys.dlq)
    assert set(fields) == {b"email_id", b"message", b"reason", b"error", b"attempts", b"dead_letter_id"}
    assert EmailStreamMessage.FromString(fields[b"message"]).content.subject == "Hello"


@pytest.mark.parametrize("lost", ["dlq", "letters", "both", "an entry", "the index of one"])
async def test_a_dlq_that_redis_lost_is_rebuilt(recovery: RecoveryWorld, lost: str) -> None:
    letters = await dead_and_shown(recovery, 3)
    entries = [entry for entry, _ in await recovery.redis.xrange(recovery.keys.dlq)]
    if lost in ("dlq", "both"):
        await recovery.redis.delete(recovery.keys.dlq)
    if lost in ("letters", "both"):
        await recovery.redis.delete(recovery.keys.letters)
    if lost == "an entry":
        await recovery.redis.xdel(recovery.keys.dlq, entries[1])
    if lost == "the index of one":
        await recovery.redis.hdel(recovery.keys.letters, letters[1])
    assert await rounds(recovery) != {}
    assert sorted(await recovery.shown()) == sorted(letters)
    assert await rounds(recovery) == {}


async def test_after_a_flush_all_letters_are_shown_at_once(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "_PAGE", 2)
    letters = await dead(recovery, 5)
    await recovery.redis.flushall()
    assert await recovery.round() == {Mended.LETTERS_SHOWN: 5}
    assert await recovery.shown() == letters


async def test_letters_are_looked_at_a_page_at_a_time(recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters_module, "_PAGE", 2)
    letters = await dead(recovery, 5)
    assert [(await recovery.round())[Mended.LETTERS_SHOWN] for _ in range(4)] == [2, 2, 1, 0]
    assert await recovery.shown() == letters


async def test_letters_that_were_resolved_leave(recovery: RecoveryWorld) -> None:
    stays, resolved, deleted = await dead_and_shown(recovery, 3)
    change = "UPDATE email_dead_letters SET resolution = 'DISCARDED', resolved_at = now() WHERE id = $1"
    await recovery.pool.execute(change, uuid.UUID(resolved))
    await recovery.pool.execute("DELETE FROM email_dead_letters WHERE id = $1", uuid.UUID(deleted))
    assert await rounds(recovery) == {Mended.LETTERS_REMOVED: 2}
    assert await recovery.shown() == [stays]


async def test_a_letter_of_an_email_that_was_sent_after_all_is_resolved_and_leaves(recovery: RecoveryWorld) -> None:
    sent, stays = await dead_and_shown(recovery, 2)
    email_id = (await recovery.log.letter(sent))["email_id"]
    await recovery.log.change(str(email_id), "status = 'SUCCESS', message = NULL")
    assert await rounds(recovery) == {Mended.LETTERS_RESOLVED: 1}
    letter = await recovery.log.letter(sent)
    assert letter["resolution"] == "DELIVERED"
    assert letter["resolved_at"] is not None
    assert await recovery.shown() == [stays]


async def test_a_malformed_entry_is_shown_again_whole(recovery: RecoveryWorld) -> None:
    noise = bytes(range(256)) * 100
    raw = encode_raw_entry("sred:email:send", "1-1", [(b"email_id", b"not-a-uuid"), (b"message", noise), (b"x", b"y")])
    letter = await recovery.log.log.record_malformed(malformed(raw_entry=raw))
    assert await rounds(recovery) == {Mended.LETTERS_SHOWN: 1}
    ((_, fields),) = await recovery.redis.xrange(recovery.keys.dlq)
    assert fields == {
        b"email_id": b"not-a-uuid",
        b"message": noise,
        b"raw:x": b"y",
        b"reason": b"MALFORMED",
        b"error": b"no email",
        b"dead_letter_id": letter.encode(),
    }


async def test_what_is_no_letter_leaves_the_dlq(recovery: RecoveryWorld) -> None:
    letters = await dead_and_shown(recovery)
    await recovery.redis.xadd(recovery.keys.dlq, {b"\xff": b"\xfe"})
    await recovery.redis.xadd(recovery.keys.dlq, {b"dead_letter_id": b"\xff"})
    await recovery.redis.hset(recovery.keys.letters, b"\xfe", b"1-1")
    await rounds(recovery)
    assert await recovery.shown() == letters
    assert await rounds(recovery) == {}


async def test_many_entries_are_made_to_agree_over_several_rounds(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(letters_module, "_PAGE", 4)
    monkeypatch.setattr(letters_module, "_ENTRIES", 2)
    letters = await dead(recovery, 11)
    for _ in range(20):
        await recovery.round()
    assert await recovery.shown() == letters
    await recovery.redis.delete(recovery.keys.letters)
    for _ in range(20):
        await recovery.round()
    assert sorted(await recovery.shown()) == sorted(letters)
