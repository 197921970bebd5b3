"""When the reconciler looks at everything, who does it, what it tells, and what it does when something is away."""

import asyncio
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import structlog
from integration.core.queue_builder import HOUR, id_of
from integration.ingress.recovery_world import RecoveryWorld

from sred_email_core.errors import LogUnavailableError, QueueUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_core.redis_connection import open_redis
from sred_email_ingress.recovery import emails as emails_module
from sred_email_ingress.recovery.passes import Mended
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import free_port
from support.world import until

SEVERAL = 12


# Another Redis


async def test_after_a_flush_everything_is_put_back_at_once_also_what_changed_just_now(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent, _ = await recovery.send_of_two(delay=HOUR)
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
        await recovery.lose(email_id)  # as a failover that lost the last writes
    await recovery.redis.set(recovery.keys.epoch, "another:redis")
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}
    assert not (await recovery.epoch.look()).changed


class Interruption:
    """Does something once in the middle of a sweep."""

    def __init__(self, recovery: RecoveryWorld, after_steps: int, what: Callable[[], Awaitable[object]]) -> None:
        self._hold = recovery.reconciler._lease.hold  # noqa: SLF001 - it is asked before each step
        recovery.reconciler._lease.hold = self  # type: ignore[method-assign]  # noqa: SLF001 - the same
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


async def test_what_fails_again_and_again_holds_up_neither_a_sweep_nor_the_rest(recovery: RecoveryWorld) -> None:
    await recovery.pool.execute("ALTER TABLE email_dead_letters RENAME COLUMN resolved_at TO of_tomorrow")
    ids = await recovery.accept(SEVERAL)
    await recovery.redis.flushall()
    with structlog.testing.capture_logs() as logs:
        assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}
    assert "passed_over" in [entry["event"] for entry in logs]
    assert not (await recovery.epoch.look()).changed
    (later,) = await recovery.accept()
    assert await recovery.round() == {Mended.PUBLISHED: 1}
    assert await recovery.on_streams() == [*ids, later]


async def test_after_the_lock_was_lost_everything_is_looked_at(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    await recovery.round()
    ids = await recovery.published(SEVERAL)
    monkeypatch.setattr(emails_module, "_PAGE", 1)

    async def break_off() -> None:
        raise LogUnavailableError("PostgreSQL: away")

    Interruption(recovery, 1, break_off)
    with pytest.raises(LogUnavailableError):
        await recovery.round()
    assert recovery.metric("in_flight", where="places") is None  # another process may tell
    for email_id in ids:
        await recovery.lose(email_id)  # while another process had the lock, and has not come by
    assert await recovery.round() == {Mended.PUBLISHED: SEVERAL}


async def test_a_process_that_begins_to_reconcile_looks_at_everything(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(emails_module, "_PAGE", 5)
    await recovery.accept(SEVERAL)
    assert await recovery.build().run_once() == {Mended.PUBLISHED: SEVERAL}


# One at a time


async def test_only_one_replica_reconciles(recovery: RecoveryWorld) -> None:
    await recovery.accept(SEVERAL)
    assert await recovery.reconciler._lease.hold()  # noqa: SLF001 - as between two rounds
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
        await recovery.lose(email_id)
    await recovery.round()
    assert recovery.metric("inconsistent") == 3
    assert recovery.metric("mended_total", what="published") == 3
    await recovery.round()
    assert recovery.metric("inconsistent") == 0


async def test_a_replica_that_does_not_reconcile_tells_nothing(recovery: RecoveryWorld) -> None:
    await recovery.round()
    assert recovery.metric("in_flight", where="places") == 0
    other = recovery.build()
    await recovery.reconciler._lease.release()  # noqa: SLF001 - it has run out
    assert await other._lease.hold()  # noqa: SLF001 - another replica has it now
    assert await recovery.round() == {}
    assert recovery.metric("in_flight", where="places") is None


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
    await recovery.lose_entry(ended[0])
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


async def test_a_stop_ends_a_round_that_waits_for_postgres(recovery: RecoveryWorld) -> None:
    stop = asyncio.Event()
    async with recovery.pool.acquire() as other, other.transaction():
        await other.execute("LOCK TABLE email_send_log")
        running = asyncio.create_task(recovery.build(interval=0.01).run(stop))
        await until(lambda: _somebody_waits(recovery), "the reconciler waits")
        stop.set()
        await asyncio.wait_for(running, 3)


async def _somebody_waits(recovery: RecoveryWorld) -> bool:
    return bool(await recovery.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))


def test_the_ids_of_a_moment_begin_with_it() -> None:
    of_log = uuid.UUID("0193f3a0-1234-7abc-8def-0123456789ab")
    at = datetime.fromtimestamp(int(of_log.hex[:12], 16) / 1000, UTC)
    assert emails_module.first_id_of(at) <= of_log < emails_module.first_id_of(at + timedelta(milliseconds=1))
