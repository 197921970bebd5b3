"""The reconciler ends what has expired, and drops from Redis what nothing needs any more."""

import asyncio
import uuid

import pytest
import structlog
from integration.core.log_builder import accepted, send_of
from integration.core.queue_builder import HOUR, NOW, id_of
from integration.ingress.recovery_world import RecoveryWorld

from sred_email_ingress.recovery import leftovers as leftovers_module
from sred_email_ingress.recovery import rounds as rounds_module
from sred_email_ingress.recovery.passes import Mended


async def parked(recovery: RecoveryWorld) -> str:
    """An email that waits alone."""
    (email_id,) = await recovery.published()
    await recovery.queue.park(await recovery.take(), HOUR)
    return email_id


# Places of emails that need none


async def test_what_an_email_that_has_ended_left_in_redis_is_dropped(recovery: RecoveryWorld) -> None:
    email_id = await parked(recovery)
    await recovery.end(email_id)
    assert await recovery.round() == {Mended.PLACES_FORGOTTEN: 1}
    assert await recovery.is_clean()


async def test_what_an_email_that_the_log_does_not_know_left_in_redis_is_dropped(recovery: RecoveryWorld) -> None:
    await parked(recovery)
    await recovery.pool.execute("DELETE FROM email_send_log")
    assert await recovery.round() == {Mended.PLACES_FORGOTTEN: 1}
    assert await recovery.is_clean()


async def test_a_place_of_no_email_at_all_is_dropped(recovery: RecoveryWorld) -> None:
    await recovery.redis.hset(recovery.keys.places, mapping={b"\xff": b"\xfe", b"": b"retry:1", b"a b": b""})
    assert await recovery.round() == {Mended.PLACES_FORGOTTEN: 3}
    assert await recovery.is_clean()


async def test_an_email_that_ended_just_now_is_left_to_whoever_ended_it(recovery: RecoveryWorld) -> None:
    email_id = await parked(recovery)
    await recovery.end(email_id)
    await recovery.log.change(email_id, "updated_at = now() - interval '29 s'")
    assert await recovery.round() == {}


async def test_an_entry_of_an_ended_email_is_left_to_whoever_takes_it(recovery: RecoveryWorld) -> None:
    ids = await recovery.published(2)
    taken = await recovery.take()
    await recovery.end(*ids)
    before = await recovery.queue.snapshot()
    assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before
    await recovery.queue.finish(taken)
    await recovery.queue.finish(await recovery.take())
    assert await recovery.is_clean()


async def test_a_send_that_was_answered_after_redis_had_lost_and_found_it_leaves_nothing(
    recovery: RecoveryWorld,
) -> None:
    ids = await recovery.accept(2)
    claim = await recovery.log.claimed(*ids)
    assert await recovery.redis.delete(recovery.keys.epoch)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    await recovery.log.log.record_answers([accepted(claim.send_id, *ids)])  # its owner, whose entries are gone
    await recovery.settle(*ids)
    assert await recovery.round() == {Mended.PLACES_FORGOTTEN: 2}
    assert await recovery.is_clean()


async def test_an_ended_email_of_an_open_send_keeps_its_place(recovery: RecoveryWorld) -> None:
    first, second = await recovery.published(2)
    entries = await recovery.take(2)
    await recovery.log.retrying(first, second, delay=NOW)
    await recovery.queue.park_send(first, *entries, delay=HOUR)
    await recovery.end(first)
    await recovery.settle()
    assert await recovery.round() == {}


async def test_an_email_that_is_replayed_at_the_same_moment_keeps_its_place(recovery: RecoveryWorld) -> None:
    reopened, moved = await parked(recovery), await parked(recovery)
    await recovery.end(reopened, moved)
    places = recovery.reconciler._rounds._passes[0]  # noqa: SLF001 - to come in between
    read = places._queue.places  # type: ignore[attr-defined]  # noqa: SLF001 - the same

    async def replay_in_between(email_ids: list[str]) -> list[bytes]:
        found: list[bytes] = await read(email_ids)
        await recovery.log.change(reopened, "status = 'QUEUED', ended_at = NULL, message = '\\x'")
        await recovery.redis.hset(recovery.keys.places, moved, f"send:{moved}")
        return found

    places._queue.places = replay_in_between  # type: ignore[attr-defined]  # noqa: SLF001 - the same
    await recovery.round()
    assert await recovery.place(reopened) == "retry:2"
    assert await recovery.queue.due_in(reopened) is not None
    assert await recovery.place(moved) == f"send:{moved}"


async def test_all_places_are_looked_at_a_page_at_a_time(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leftovers_module, "_PLACES", 100)
    stays = await recovery.published(300)
    await recovery.redis.hset(recovery.keys.places, mapping={str(uuid.uuid4()): "retry:1" for _ in range(700)})
    rounds = [(await recovery.round())[Mended.PLACES_FORGOTTEN] for _ in range(15)]
    assert sum(rounds) == 700
    assert max(rounds) < 300
    assert {i.decode() for i in await recovery.redis.hkeys(recovery.keys.places)} == set(stays)


async def test_members_and_messages_of_nobody_are_dropped(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.published()
    await recovery.redis.zadd(recovery.keys.retry, {email_id: 2.0**53, "nobody": 2.0**53, b"\xff": 1})
    await recovery.redis.hset(recovery.keys.parked, mapping={email_id: "x", "nobody": "x", b"\xff": "x"})
    mended = [await recovery.round() for _ in range(2)]
    assert mended[0] + mended[1] == {Mended.LEFTOVERS_DROPPED: 6}
    assert not await recovery.redis.exists(recovery.keys.retry, recovery.keys.parked)
    assert len(await recovery.on_streams()) == 1


# Expiry


async def expire(recovery: RecoveryWorld, *email_ids: str) -> None:
    for email_id in email_ids:
        await recovery.log.change(email_id, "expire_at = now() - interval '1 s'")


async def test_an_email_that_expires_while_it_waits_ends_and_leaves_redis(recovery: RecoveryWorld) -> None:
    on_stream = (await recovery.published())[0]
    waits = await recovery.accept()
    await recovery.log.change(waits[0], "next_attempt_at = now() + interval '1 hour'")
    await recovery.publish(*waits)
    nowhere = (await recovery.accept())[0]
    ids = [on_stream, *waits, nowhere]
    await expire(recovery, *ids)
    with structlog.testing.capture_logs() as logs:
        assert await recovery.round() == {}
    assert [entry["event"] for entry in logs] == ["emails_expired"]
    assert await recovery.is_clean()
    for email_id in ids:
        row = await recovery.log.email(email_id)
        assert (row["status"], row["message"]) == ("EXPIRED", None)
        assert await recovery.log.events(email_id) == ["ACCEPTED", "EXPIRED"]


async def test_an_expired_email_that_a_consumer_holds_is_dropped_by_it(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.published()
    entries = await recovery.take()
    await expire(recovery, email_id)
    assert await recovery.round() == {}
    assert (await recovery.log.email(email_id))["status"] == "EXPIRED"
    assert (await recovery.place(email_id)).startswith("stream:")
    assert await recovery.queue.finish(entries) == 1
    assert await recovery.is_clean()


async def test_an_expired_email_that_may_have_been_accepted_is_not_ended_here(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.published()
    entries = await recovery.take()
    await recovery.log.retrying(id_of(entries[0]), delay=NOW)
    await recovery.queue.park_send(email_id, *entries)
    await recovery.settle()
    await expire(recovery, email_id)
    before = await recovery.queue.snapshot()
    assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before
    assert (await recovery.log.email(email_id))["status"] == "RETRYING"


async def test_expired_emails_are_not_published_again_after_a_flush(recovery: RecoveryWorld) -> None:
    await expire(recovery, *await recovery.published(3))
    await recovery.redis.flushall()
    assert await recovery.round() == {}
    assert await recovery.on_streams() == []


async def test_many_expired_emails_end_over_several_rounds(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rounds_module, "_EXPIRE_PAGE", 2)
    monkeypatch.setattr(rounds_module, "_EXPIRE_PAGES", 3)
    await expire(recovery, *await recovery.published(10))
    await recovery.round()
    assert await recovery.pool.fetchval("SELECT count(*) FROM email_send_log WHERE ended_at IS NULL") == 4
    await recovery.round()
    assert await recovery.is_clean()


async def test_an_email_that_is_claimed_or_expires_is_never_both(recovery: RecoveryWorld) -> None:
    ids = await recovery.published(40)
    await recovery.pool.execute("UPDATE email_send_log SET expire_at = clock_timestamp() + interval '50 ms'")

    async def claim_all() -> int:
        claims = [await recovery.log.log.claim([send_of(email_id)]) for email_id in ids]
        return sum(not isinstance(claim, dict) for (claim,) in claims)

    async def expire_all() -> None:
        for _ in range(20):
            await recovery.round()

    claimed, _ = await asyncio.gather(claim_all(), expire_all())
    rows = await recovery.pool.fetch(
        "SELECT e.status, m.email_id IS NOT NULL AS in_send FROM email_send_log e"
        " LEFT JOIN email_send_members m ON m.email_id = e.id"
    )
    assert {(row["status"], row["in_send"]) for row in rows} <= {("SENDING", True), ("EXPIRED", False)}
    assert sum(row["in_send"] for row in rows) == claimed
