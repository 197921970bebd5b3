"""The reconciler puts back into Redis what the log says is open."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from integration.core.queue_builder import HOUR, NOW, id_of
from integration.ingress.recovery_world import RecoveryWorld

from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_core.queue.keys import Lane
from sred_email_core.redis_connection import open_redis
from sred_email_ingress.recovery import emails as emails_module
from sred_email_ingress.recovery.passes import Mended
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port
from support.world import until

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
        other._lock.hold = _yes  # type: ignore[method-assign]  # noqa: SLF001 - the same
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


async def lose_entry(recovery: RecoveryWorld, email_id: str) -> None:
    lane, entry_id = (await recovery.place(email_id)).split(":")[1:]
    await recovery.redis.xdel(recovery.keys.stream(Lane(int(lane))), entry_id)


async def lose_place(recovery: RecoveryWorld, email_id: str) -> None:
    await lose_entry(recovery, email_id)
    await recovery.redis.hdel(recovery.keys.places, email_id)


async def say_parked(recovery: RecoveryWorld, email_id: str) -> None:
    await lose_entry(recovery, email_id)
    await recovery.redis.hset(recovery.keys.places, email_id, "retry:1")
    await recovery.redis.zadd(recovery.keys.retry, {email_id: 2.0**53})


async def say_in_a_send(recovery: RecoveryWorld, email_id: str) -> None:
    await lose_entry(recovery, email_id)
    await recovery.queue.park_send(email_id)


async def say_nonsense(recovery: RecoveryWorld, email_id: str) -> None:
    await lose_entry(recovery, email_id)
    await recovery.redis.hset(recovery.keys.places, email_id, b"\xff")


@pytest.mark.parametrize("lose", [lose_entry, lose_place, say_parked, say_in_a_send, say_nonsense])
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
        await lose_place(recovery, email_id)
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


async def send_of_two(recovery: RecoveryWorld, delay: timedelta = NOW) -> tuple[str, str]:
    """Two emails in an open send that waits for its repeat, as the consumer leaves it."""
    first, second = await recovery.published(2)
    entries = await recovery.take(2)
    claim = await recovery.log.claimed(first, second)
    await recovery.log.fail(claim, FailureAction.RETRY, delay=delay)
    await recovery.queue.park_send(first, *entries, delay=HOUR)
    await recovery.settle()
    assert await recovery.round() == {}
    return first, second


async def test_a_send_that_redis_has_lost_is_due_when_its_next_attempt_is(recovery: RecoveryWorld) -> None:
    first, second = await send_of_two(recovery, delay=HOUR)
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
    first, _ = await send_of_two(recovery)
    await recovery.redis.delete(recovery.keys.retry, recovery.keys.places)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    taken = await recovery.queue.take(10)
    assert (taken.repeats, taken.requests) == ([first], [])


async def test_one_email_of_a_send_that_lost_its_place_gets_it_back_and_moves_nothing_else(
    recovery: RecoveryWorld,
) -> None:
    first, second = await send_of_two(recovery)
    before = await recovery.queue.snapshot()
    await recovery.redis.hdel(recovery.keys.places, second)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 1}
    assert await recovery.place(second) == f"send:{first}"
    assert (await recovery.queue.snapshot())[recovery.keys.retry.encode()] == before[recovery.keys.retry.encode()]


async def test_a_send_that_left_the_retry_set_is_put_back_although_its_places_are_there(
    recovery: RecoveryWorld,
) -> None:
    first, _ = await send_of_two(recovery)
    await recovery.redis.zrem(recovery.keys.retry, first)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 2}
    assert (await recovery.queue.take(10)).repeats == [first]


async def test_a_send_whose_first_email_has_ended_is_still_found(recovery: RecoveryWorld) -> None:
    first, second = await send_of_two(recovery)
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
    await lose_place(recovery, second)
    assert await recovery.round() == {Mended.PLACED_IN_SENDS: 1}
    assert (await recovery.queue.take(10)).repeats == [first]
    assert await recovery.round() == {}


async def test_a_send_of_which_the_log_knows_nothing_is_not_repeated(recovery: RecoveryWorld) -> None:
    first, second = await send_of_two(recovery)
    await recovery.pool.execute("DELETE FROM email_send_members")
    await recovery.pool.execute("DELETE FROM email_sends")
    await recovery.pool.execute("UPDATE email_send_log SET next_attempt_at = NULL")
    assert (await recovery.round())[Mended.PUBLISHED] == 2
    assert sorted(await recovery.on_streams()) == sorted([first, second])
    assert not await recovery.redis.exists(recovery.keys.retry)


# Another Redis


async def test_after_a_flush_everything_is_put_back_at_once_also_what_changed_just_now(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, _ = await send_of_two(recovery, delay=HOUR)
    ids = await recovery.published(SEVERAL)
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    assert await recovery.round() == {}  # it has looked at the first page now
    await recovery.pool.execute("UPDATE email_send_log SET updated_at = now()")
    await recovery.redis.flushall()
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL, Mended.PLACED_IN_SENDS: 2}
    assert await recovery.on_streams() == ids
    assert await recovery.queue.due_in(sent) is not None
    assert not (await recovery.epoch.look()).changed
    assert await recovery.round() == {}


async def test_a_redis_of_another_run_is_looked_through_at_once(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = await recovery.published(SEVERAL)
    await recovery.round()
    for email_id in ids:
        await lose_place(recovery, email_id)  # as a failover that lost the last writes
    await recovery.redis.set(recovery.keys.epoch, "another:redis")
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}
    assert not (await recovery.epoch.look()).changed


class Interruption:
    """Does something once in the middle of a sweep."""

    def __init__(self, recovery: RecoveryWorld, after_steps: int, what: Callable[[], Awaitable[object]]) -> None:
        self._hold = recovery.reconciler._lock.hold  # noqa: SLF001 - it is asked before each step
        recovery.reconciler._lock.hold = self  # type: ignore[method-assign]  # noqa: SLF001 - the same
        self._left = after_steps
        self._what = what

    async def __call__(self) -> bool:
        self._left -= 1
        if self._left == 0:
            await self._what()
        return await self._hold()


async def test_a_flush_in_the_middle_of_a_sweep_begins_it_again(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    ids = await recovery.accept(SEVERAL)
    await recovery.redis.flushall()
    Interruption(recovery, 6, recovery.redis.flushall)
    assert (await recovery.round())[Mended.PUBLISHED] == SEVERAL
    assert len(await recovery.on_streams()) < SEVERAL
    assert (await recovery.epoch.look()).changed
    assert (await recovery.round())[Mended.PUBLISHED] > 0
    assert sorted(await recovery.on_streams()) == ids
    assert not (await recovery.epoch.look()).changed


async def test_a_sweep_that_is_interrupted_goes_on_where_it_was(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    ids = await recovery.accept(SEVERAL)
    await recovery.redis.flushall()

    async def break_off() -> None:
        raise LogUnavailableError("PostgreSQL: away")

    Interruption(recovery, 6, break_off)
    with pytest.raises(LogUnavailableError):
        await recovery.round()
    done = await recovery.on_streams()
    assert 0 < len(done) < SEVERAL
    assert (await recovery.epoch.look()).changed
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL - len(done)}
    assert await recovery.on_streams() == ids
    assert not (await recovery.epoch.look()).changed


async def test_a_flush_while_a_sweep_is_interrupted_begins_it_again(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    ids = await recovery.accept(SEVERAL)
    await recovery.redis.flushall()

    async def break_off() -> None:
        raise QueueUnavailableError("Redis: away")

    Interruption(recovery, 6, break_off)
    with pytest.raises(QueueUnavailableError):
        await recovery.round()
    assert await recovery.on_streams() != []
    await recovery.redis.flushall()
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}
    assert await recovery.on_streams() == ids


async def test_a_process_that_begins_to_reconcile_looks_at_everything(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    await recovery.accept(SEVERAL)
    assert await recovery.build().run_once() == {Mended.PUBLISHED: SEVERAL}


# One at a time


async def test_only_one_replica_reconciles(recovery: RecoveryWorld) -> None:
    await recovery.accept(SEVERAL)
    assert await recovery.reconciler._lock.hold()  # noqa: SLF001 - as between two rounds
    assert await recovery.build().run_once() == {}
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}


# Metrics


async def test_metrics_tell_what_is_in_flight_and_how_much_was_not_where_it_should_be(recovery: RecoveryWorld) -> None:
    ids = await recovery.published(SEVERAL)
    entries = await recovery.take(2)
    await recovery.queue.park(entries[:1], HOUR)
    await recovery.log.retrying(id_of(entries[1]), delay=HOUR)
    await recovery.queue.park_send(id_of(entries[1]), entries[1], delay=HOUR)
    await recovery.settle()
    recovery.reconciler._consistency._next_count_s = 0  # noqa: SLF001 - it counts no more often than it may
    await recovery.round()
    where = ("log", "places", "streams", "parked", "sends")
    assert [recovery.metric("in_flight", where=each) for each in where] == [SEVERAL, SEVERAL, SEVERAL - 2, 1, 1]
    assert recovery.metric("inconsistent") == 0
    for email_id in ids[-3:]:
        await lose_place(recovery, email_id)
    await recovery.round()
    assert recovery.metric("inconsistent") == 3
    assert recovery.metric("mended_total", what="published") == 3
    await recovery.round()
    assert recovery.metric("inconsistent") == 0


async def test_a_replica_that_does_not_reconcile_tells_nothing(recovery: RecoveryWorld) -> None:
    await recovery.round()
    assert recovery.metric("in_flight", where="places") == 0
    other = recovery.build()
    await recovery.reconciler._lock.release()  # noqa: SLF001 - its session ended
    assert await other._lock.hold()  # noqa: SLF001 - another replica has it now
    assert await recovery.round() == {}
    assert recovery.metric("in_flight", where="places") is None
    await other._lock.release()  # noqa: SLF001 - the connection is of a shared pool


# When something is away or full


async def test_a_redis_that_refuses_is_for_later(recovery: RecoveryWorld) -> None:
    await recovery.accept(SEVERAL)
    await recovery.redis.execute_command("ACL", "SETUSER", "default", "-xadd")
    try:
        with pytest.raises(QueueUnavailableError):
            await recovery.round()
        assert recovery.metric("inconsistent") is not None
    finally:
        await recovery.redis.execute_command("ACL", "SETUSER", "default", "+xadd")
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}


async def test_hazard_12_with_a_full_redis_nothing_is_trimmed_or_lost_and_all_is_published_when_there_is_room(
    recovery: RecoveryWorld,
) -> None:
    there = await recovery.published(SEVERAL)
    waiting = await recovery.accept(SEVERAL)
    ended = await recovery.published(1)
    await lose_entry(recovery, ended[0])
    await recovery.end(*ended)
    await recovery.redis.config_set("maxmemory", 1)
    try:
        with pytest.raises(QueueUnavailableError):
            await recovery.round()
        assert await recovery.place(ended[0]) == ""  # what nothing needs has left all the same
        assert sorted(await recovery.on_streams()) == there
        assert recovery.metric("in_flight", where="streams") == SEVERAL
        assert recovery.metric("inconsistent") == SEVERAL
    finally:
        await recovery.redis.config_set("maxmemory", 0)
    assert (await recovery.round())[Mended.PUBLISHED] == SEVERAL
    assert sorted(await recovery.on_streams()) == sorted([*there, *waiting])


async def test_with_redis_away_it_goes_on_and_complains_once_for_each_change(
    recovery: RecoveryWorld, tmp_path: Path
) -> None:
    async with ValkeyServer(tmp_path) as server, open_redis(server.url, timeout=timedelta(seconds=1)) as client:
        world = RecoveryWorld(recovery.pool, client)
        stop, logs = asyncio.Event(), structlog.testing.LogCapture()
        structlog.configure(processors=[logs])
        running = asyncio.create_task(world.build(interval=0.02).run(stop))
        try:
            await until(lambda: _sealed(world), "it has seen this Redis")
            server.kill()
            (email_id,) = await world.accept()
            for _ in range(2):
                await until(lambda: _told(logs, "reconciliation_postponed"), "it complains")
                await asyncio.sleep(0.2)  # and again, were it to
            await server.start()
            await until(lambda: world.place(email_id), "the email is published")
            await until(lambda: _told(logs, "reconciliation_resumed"), "it is content")
        finally:
            stop.set()
            structlog.reset_defaults()
        await asyncio.wait_for(running, 10)
    told = [entry["event"] for entry in logs.entries if entry["event"].startswith("reconciliation")]
    assert told == ["reconciliation_postponed", "reconciliation_resumed"]


async def _sealed(world: RecoveryWorld) -> bool:
    return not (await world.epoch.look()).changed


async def _told(logs: "structlog.testing.LogCapture", event: str) -> bool:
    return any(entry["event"] == event for entry in logs.entries)


async def test_with_postgres_away_it_goes_on_and_complains_once(recovery: RecoveryWorld) -> None:
    stop = asyncio.Event()
    async with open_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/none", max_size=1) as pool:
        away = RecoveryWorld(pool, recovery.redis).build(interval=0.01)
        with structlog.testing.capture_logs() as logs:
            asyncio.get_running_loop().call_later(0.5, stop.set)
            await asyncio.wait_for(away.run(stop), 10)
    assert [entry["event"] for entry in logs] == ["reconciliation_postponed"]
    assert "PostgreSQL" in logs[0]["reason"]


async def test_a_stop_is_heard_in_the_middle_of_a_sweep_and_gives_the_lock_back(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 1)
    await recovery.accept(SEVERAL)
    await recovery.redis.flushall()
    stop = asyncio.Event()
    recovery.reconciler._interval_s = 0.01  # noqa: SLF001 - not to wait

    async def ask_to_stop() -> None:
        stop.set()

    Interruption(recovery, 5, ask_to_stop)
    await asyncio.wait_for(recovery.reconciler.run(stop), 10)
    assert len(await recovery.on_streams()) < SEVERAL
    assert await recovery.build().run_once() != {}


def test_the_ids_of_a_moment_begin_with_it() -> None:
    of_log = uuid.UUID("0193f3a0-1234-7abc-8def-0123456789ab")
    at = datetime.fromtimestamp(int(of_log.hex[:12], 16) / 1000, UTC)
    assert emails_module.first_id_of(at) <= of_log < emails_module.first_id_of(at + timedelta(milliseconds=1))
