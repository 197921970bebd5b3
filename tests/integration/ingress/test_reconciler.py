"""The reconciler puts back into Redis what the log says is open."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta

import pytest
import structlog
from integration.core.queue_builder import HOUR, NOW, id_of
from integration.ingress.recovery_world import AFTER, RecoveryWorld

from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.queue.keys import Lane
from sred_email_ingress.recovery import emails as emails_module
from sred_email_ingress.recovery.passes import Mended

SEVERAL = 12


# Emails


async def test_hazard_1_an_email_whose_ingress_died_between_commit_and_publish_is_published(
    recovery: RecoveryWorld,
) -> None:
    ids = await recovery.accept(SEVERAL)
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}
    assert await recovery.on_streams() == ids
    assert await recovery.round() == {}
    assert len(await recovery.take(SEVERAL)) == SEVERAL


async def test_hazard_2_publishing_twice_at_the_same_moment_adds_each_email_once(recovery: RecoveryWorld) -> None:
    ids = await recovery.accept(200)
    await recovery.redis.delete(recovery.keys.epoch)
    others = [recovery.build() for _ in range(3)]
    rounds = [other._round(asyncio.Event()) for other in others]  # noqa: SLF001 - all of them, as if nobody had the lock
    for other in others:
        other._lease.hold = _yes  # type: ignore[method-assign]  # noqa: SLF001 - the same
    await asyncio.gather(*rounds, recovery.publish(*ids[:100]), recovery.publish(*ids[100:]))
    assert sorted(await recovery.on_streams()) == ids
    assert await recovery.round() == {}


async def _yes() -> bool:
    return True


async def test_an_email_that_changed_just_now_is_left_to_whoever_changed_it(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.accept()
    await recovery.log.change(email_id, "updated_at = now() - interval '29 s'")
    assert await recovery.round() == {}
    await recovery.log.change(email_id, "updated_at = now() - interval '31 s'")
    assert await recovery.round() == {Mended.PUBLISHED: 1}


async def test_emails_of_a_kind_of_another_version_hold_nobody_up(recovery: RecoveryWorld) -> None:
    unknown, *others = await recovery.accept(SEVERAL)
    await recovery.log.change(unknown, "kind = 'OF_TOMORROW'")
    with structlog.testing.capture_logs() as logs:
        assert await recovery.round() == {Mended.PUBLISHED: SEVERAL - 1}
    assert await recovery.on_streams() == others
    assert [entry["email_ids"] for entry in logs if entry["event"] == "emails_not_publishable"] == [[unknown]]
    assert await recovery.round() == {}
    assert recovery.metric("inconsistent") == 1
    await recovery.log.change(unknown, "kind = 'WELCOME'")
    await recovery.settle()
    assert await recovery.round() == {Mended.PUBLISHED: 1}


async def test_new_emails_are_looked_for_until_the_slowest_acceptance_has_settled(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    rounds = recovery.reconciler._rounds  # noqa: SLF001 - the rest would find it too, in time
    monkeypatch.setattr(rounds, "_passes", [])
    await recovery.round()
    accepted_at = (
        datetime.now(UTC) - AFTER - timedelta(seconds=60)
    )  # when its id was made: it was committed a minute later
    id_ = uuid.UUID(int=emails_module.first_id_of(accepted_at).int + 1)
    (email_id,) = await recovery.accept()
    await recovery.pool.execute("UPDATE email_send_log SET id = $1 WHERE id = $2", id_, uuid.UUID(email_id))
    assert await recovery.round() == {Mended.PUBLISHED: 1}
    assert await recovery.on_streams() == [str(id_)]


async def test_in_a_healthy_queue_nothing_is_touched_and_no_content_is_read(recovery: RecoveryWorld) -> None:
    ids = await recovery.published(SEVERAL)
    entries = await recovery.take(4)
    await recovery.queue.park(entries[:1], HOUR)
    claims = [await recovery.log.claimed(id_of(entry)) for entry in entries[1:3]]
    await recovery.log.fail(claims[1], FailureAction.RETRY, delay=HOUR)
    await recovery.queue.park_send(id_of(entries[2]), entries[2], delay=HOUR)
    await recovery.settle(*ids)
    await recovery.pool.execute("UPDATE email_send_log SET message = '\\xff'")
    before = await recovery.queue.snapshot()
    with structlog.testing.capture_logs() as logs:
        assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before
    assert logs == []


async def say_parked(recovery: RecoveryWorld, email_id: str) -> None:
    await recovery.lose_entry(email_id)
    await recovery.redis.hset(recovery.keys.places, email_id, "retry:1")
    await recovery.redis.zadd(recovery.keys.retry, {email_id: 2.0**53})


async def say_in_a_send(recovery: RecoveryWorld, email_id: str) -> None:
    await recovery.lose_entry(email_id)
    await recovery.queue.park_send(email_id)


async def say_nonsense(recovery: RecoveryWorld, email_id: str) -> None:
    await recovery.lose_entry(email_id)
    await recovery.redis.hset(recovery.keys.places, email_id, b"\xff")


@pytest.mark.parametrize(
    "lose", [RecoveryWorld.lose_entry, RecoveryWorld.lose, say_parked, say_in_a_send, say_nonsense]
)
async def test_a_place_that_is_not_true_is_healed(
    recovery: RecoveryWorld, lose: Callable[[RecoveryWorld, str], Awaitable[None]]
) -> None:
    kept, lost = await recovery.published(2)
    await lose(recovery, lost)
    with structlog.testing.capture_logs() as logs:
        assert (await recovery.round())[Mended.PUBLISHED] == 1
    assert sorted(await recovery.on_streams()) == sorted([kept, lost])
    assert (await recovery.place(lost)).startswith("stream:2:")
    assert not await recovery.redis.exists(recovery.keys.retry, recovery.keys.parked)
    assert [(entry["event"], entry["log_level"], entry["published"]) for entry in logs] == [
        ("redis_mended", "warning", 1)
    ]
    assert await recovery.round() == {}


async def test_an_email_that_waits_is_put_back_to_wait_as_long(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.accept()
    await recovery.log.change(email_id, "status = 'RETRYING', next_attempt_at = now() + interval '1 hour'")
    assert await recovery.round() == {Mended.PUBLISHED: 1}
    assert await recovery.place(email_id) == "retry:2"
    due_in = await recovery.queue.due_in(email_id)
    assert due_in is not None
    assert timedelta(minutes=59) < due_in <= HOUR
    assert await recovery.round() == {}


async def test_large_content_is_left_in_the_log(recovery: RecoveryWorld) -> None:
    await recovery.accept(message=b"\x3a\x80\x80\x40" + b"x" * 2**20)  # a field html of 1 MB
    assert await recovery.round() == {Mended.PUBLISHED: 1}
    ((_, fields),) = await recovery.redis.xrange(recovery.keys.stream(Lane.NORMAL))
    assert sum(map(len, fields.values())) < 500


async def test_every_page_is_looked_at(recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    ids = await recovery.published(SEVERAL)
    for email_id in ids[::2]:
        await recovery.lose(email_id)
    mended = [(await recovery.round())[Mended.PUBLISHED] for _ in range(4)]
    assert mended == [3, 2, 1, 0]
    assert sorted(await recovery.on_streams()) == ids


async def test_what_was_accepted_since_the_last_round_is_looked_at_at_once(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = await recovery.published(SEVERAL)
    await recovery.round()
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    monkeypatch.setattr(recovery.reconciler._rounds, "_after", timedelta())  # noqa: SLF001 - their ids are of now
    new = await recovery.accept(7)
    assert await recovery.round() == {Mended.PUBLISHED: 7}
    assert sorted(await recovery.on_streams()) == sorted([*old, *new])


# Sends


async def test_a_send_that_redis_has_lost_is_due_when_its_next_attempt_is(recovery: RecoveryWorld) -> None:
    first, second = await recovery.send_of_two(delay=HOUR)
    await recovery.redis.delete(recovery.keys.retry, recovery.keys.places)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    assert [await recovery.place(i) for i in (first, second)] == [f"send:{first}"] * 2
    due_in = await recovery.queue.due_in(first)
    assert due_in is not None
    assert timedelta(minutes=59) < due_in <= HOUR
    assert await recovery.round() == {}


async def test_a_send_whose_owner_may_still_be_sending_waits_for_its_lease(recovery: RecoveryWorld) -> None:
    (email_id,) = await recovery.accept()
    await recovery.log.claimed(email_id)
    await recovery.settle()
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 1}
    due_in = await recovery.queue.due_in(email_id)
    assert due_in is not None
    assert timedelta(seconds=50) < due_in <= timedelta(minutes=1)


async def test_a_send_that_is_due_is_repeated_once(recovery: RecoveryWorld) -> None:
    first, _ = await recovery.send_of_two()
    await recovery.redis.delete(recovery.keys.retry, recovery.keys.places)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    taken = await recovery.queue.take(10)
    assert (taken.repeats, taken.requests) == ([first], [])


async def test_one_email_of_a_send_that_lost_its_place_gets_it_back_and_moves_nothing_else(
    recovery: RecoveryWorld,
) -> None:
    first, second = await recovery.send_of_two()
    before = await recovery.queue.snapshot()
    await recovery.redis.hdel(recovery.keys.places, second)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 1}
    assert await recovery.place(second) == f"send:{first}"
    assert (await recovery.queue.snapshot())[recovery.keys.retry.encode()] == before[recovery.keys.retry.encode()]


async def test_a_send_that_left_the_retry_set_is_put_back_although_its_places_are_there(
    recovery: RecoveryWorld,
) -> None:
    first, _ = await recovery.send_of_two()
    await recovery.redis.zrem(recovery.keys.retry, first)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    assert (await recovery.queue.take(10)).repeats == [first]


async def test_a_send_whose_first_email_has_ended_is_still_found(recovery: RecoveryWorld) -> None:
    first, second = await recovery.send_of_two()
    await recovery.log.change(first, "status = 'SUCCESS', ended_at = now(), message = NULL")
    await recovery.settle()
    assert await recovery.round() == {}
    await recovery.redis.delete(recovery.keys.retry, recovery.keys.places)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    assert await recovery.place(second) == f"send:{first}"
    assert (await recovery.queue.take(10)).repeats == [first]


async def test_emails_of_a_send_that_are_on_their_streams_are_left_to_whoever_takes_them(
    recovery: RecoveryWorld,
) -> None:
    first, second = await recovery.published(2)
    await recovery.log.retrying(first, second, delay=NOW)
    await recovery.settle()
    before = await recovery.queue.snapshot()
    assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before


async def test_a_send_one_of_whose_emails_is_nowhere_is_found_although_the_first_is_on_its_stream(
    recovery: RecoveryWorld,
) -> None:
    first, second = await recovery.published(2)
    await recovery.log.retrying(first, second, delay=NOW)
    await recovery.settle()
    await recovery.lose(second)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 1}
    assert (await recovery.queue.take(10)).repeats == [first]
    assert await recovery.round() == {}


async def test_a_send_of_which_the_log_knows_nothing_is_not_repeated(recovery: RecoveryWorld) -> None:
    first, second = await recovery.send_of_two()
    await recovery.pool.execute("DELETE FROM email_send_members")
    await recovery.pool.execute("DELETE FROM email_sends")
    await recovery.pool.execute("UPDATE email_send_log SET next_attempt_at = NULL")
    assert (await recovery.round())[Mended.PUBLISHED] == 2
    assert sorted(await recovery.on_streams()) == sorted([first, second])
    assert not await recovery.redis.exists(recovery.keys.retry)
