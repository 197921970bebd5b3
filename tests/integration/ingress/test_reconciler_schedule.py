"""Scheduled emails come into Redis when their time is near, by whichever replica reconciles, and not before."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from integration.ingress.ingress_world import IngressWorld
from integration.ingress.recovery_world import AFTER, RecoveryWorld
from prometheus_client import CollectorRegistry

from sred_email_core.queue.keys import Lane
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery import schedule as schedule_module
from sred_email_ingress.recovery.composition import build_reconciler
from sred_email_ingress.recovery.passes import Mended

SEVERAL = 12


async def schedule(recovery: RecoveryWorld, count: int = 1, **ahead: float) -> list[str]:
    """Emails in the log that are scheduled, accepted some time ago."""
    return await recovery.accept(count, send_at=datetime.now(UTC) + timedelta(**ahead))


async def come_nearer(recovery: RecoveryWorld, *email_ids: str, ahead: str = "59 minutes") -> None:
    """Let time pass for scheduled emails."""
    for email_id in email_ids:
        await recovery.log.change(email_id, f"send_at = now() + interval '{ahead}', next_attempt_at = NULL")


async def waiting(recovery: RecoveryWorld) -> dict[str, float]:
    """What waits in the retry set, and until when, in seconds from now."""
    now_s, micros = await recovery.redis.time()
    members = await recovery.redis.zrange(recovery.keys.retry, 0, -1, withscores=True)
    return {email_id.decode(): score / 1000 - now_s - micros / 1e6 for email_id, score in members}


async def test_what_is_due_within_the_hour_is_published_to_wait_and_is_not_called_mended(
    recovery: RecoveryWorld,
) -> None:
    ids = await schedule(recovery, SEVERAL, hours=2)
    await come_nearer(recovery, *ids)
    assert await recovery.round() == {}
    found = await waiting(recovery)
    assert sorted(found) == ids
    assert all(59 * 60 - 30 < seconds <= 59 * 60 for seconds in found.values())
    assert {await recovery.place(email_id) for email_id in ids} == {"retry:2"}
    assert await recovery.on_streams() == []
    assert recovery.metric("inconsistent") == 0
    before = await recovery.queue.snapshot()
    assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before


async def test_what_is_due_later_is_left_in_postgresql_and_not_taken_for_lost(recovery: RecoveryWorld) -> None:
    await schedule(recovery, SEVERAL, hours=1.1)
    for _ in range(3):
        assert await recovery.round() == {}
    assert await recovery.is_clean()
    assert recovery.metric("inconsistent") == 0
    registry = CollectorRegistry()
    await recovery.build(registry).run_once()  # a new one counts at once
    counts = {w: registry.get_sample_value("sred_email_ingress_in_flight", {"where": w}) for w in ("log", "scheduled")}
    assert counts == {"log": 0, "scheduled": SEVERAL}


async def test_after_a_flush_what_is_due_within_the_hour_is_put_back_with_its_time(recovery: RecoveryWorld) -> None:
    far, soon, very_soon = (
        *await schedule(recovery, hours=48),
        *await schedule(recovery, minutes=55),
        *await schedule(recovery, minutes=5),
    )
    await recovery.round()
    await recovery.redis.flushall()
    await recovery.queue.runner.ensure_groups()
    await recovery.round()
    found = await waiting(recovery)
    assert sorted(found) == sorted([soon, very_soon])
    assert found[soon] > 54 * 60
    assert 4 * 60 < found[very_soon] <= 5 * 60
    assert await recovery.place(far) == ""
    assert await recovery.on_streams() == []


@pytest.mark.parametrize("key", ["places", "retry", "parked"])
async def test_a_place_that_is_lost_or_not_true_is_given_again(recovery: RecoveryWorld, key: str) -> None:
    first, email_id = await schedule(recovery, 2, minutes=5)
    await recovery.round()
    await recovery.redis.delete(getattr(recovery.keys, key))
    for _ in range(2):
        assert Mended.PUBLISHED not in await recovery.round()
    assert sorted(await waiting(recovery)) == [first, email_id]
    assert await recovery.redis.hlen(recovery.keys.parked) == 2
    assert {await recovery.place(first), await recovery.place(email_id)} == {"retry:2"}
    assert recovery.metric("inconsistent") == 0


async def test_what_is_overdue_goes_to_its_stream(recovery: RecoveryWorld) -> None:
    ids = await schedule(recovery, 2, hours=3)
    await recovery.round()
    await come_nearer(recovery, *ids, ahead="-1 minute")
    await recovery.round()
    assert await recovery.on_streams() == ids


async def test_an_email_in_a_send_is_left_to_whoever_looks_after_sends(recovery: RecoveryWorld) -> None:
    first, second = await recovery.send_of_two()
    for email_id in (first, second):
        await recovery.log.change(email_id, "send_at = now() - interval '1 minute'")
    before = await recovery.queue.snapshot()
    assert await recovery.round() == {}
    assert await recovery.queue.snapshot() == before


async def test_while_the_queue_is_nearly_full_only_what_is_due_comes_and_then_nothing(recovery: RecoveryWorld) -> None:
    pressure = 0.96
    reconciler = build_reconciler(
        recovery.pool,
        recovery.queue.runner,
        recovery.keys,
        IngressMetrics(CollectorRegistry()),
        interval=timedelta(seconds=10),
        after=AFTER,
        pressure=lambda: pressure,
    )
    await reconciler.run_once()
    due, soon = (*await schedule(recovery, seconds=10), *await schedule(recovery, minutes=30))
    await reconciler.run_once()
    assert await waiting(recovery) == {}
    pressure = 0.8
    await reconciler.run_once()
    assert list(await waiting(recovery)) == [due]
    pressure = 0.5
    await reconciler.run_once()
    assert sorted(await waiting(recovery)) == sorted([due, soon])


async def test_more_than_the_backlog_holds_scheduled_for_one_hour_holds_up_neither_itself_nor_new_emails(
    recovery: RecoveryWorld,
) -> None:
    ids = await schedule(recovery, SEVERAL, minutes=10)
    ingress = IngressWorld(recovery.pool, recovery.redis, max_backlog=10)
    backpressure = ingress.parts.backpressure
    await backpressure.run_once()  # of an ingress that starts: it counts what the log has open
    assert not backpressure.refuses(Lane.LOW)
    await come_nearer(recovery, *ids, ahead="-1 second")
    ingress = IngressWorld(recovery.pool, recovery.redis, max_backlog=10)
    await ingress.parts.backpressure.run_once()
    assert ingress.parts.backpressure.refuses(Lane.HIGH)
    reconciler = build_reconciler(
        recovery.pool,
        recovery.queue.runner,
        recovery.keys,
        IngressMetrics(CollectorRegistry()),
        interval=timedelta(seconds=10),
        after=AFTER,
        pressure=lambda: ingress.parts.backpressure.pressure_on_redis,
    )
    await reconciler.run_once()
    assert await recovery.on_streams() == ids


async def test_another_replica_goes_on_where_one_died_and_both_at_once_publish_once(recovery: RecoveryWorld) -> None:
    ids = await schedule(recovery, 200, minutes=59)
    others = [recovery.build() for _ in range(3)]
    rounds = [other._round(asyncio.Event()) for other in others]  # noqa: SLF001 - all of them, as if nobody had the lock
    for other in others:
        other._lease.hold = _yes  # type: ignore[method-assign]  # noqa: SLF001 - the same
    await asyncio.gather(*rounds, recovery.publish(*ids[:50]))
    assert sorted(await waiting(recovery)) == ids
    assert await recovery.redis.hlen(recovery.keys.parked) == 200


async def _yes() -> bool:
    return True


async def test_many_that_are_due_together_are_published_a_bounded_number_at_a_time(
    recovery: RecoveryWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schedule_module, "_PAGE", 5)
    monkeypatch.setattr(schedule_module, "_PAGES", 2)
    ids = await schedule(recovery, 25, hours=2)
    await recovery.pool.execute(
        "UPDATE email_send_log SET next_attempt_at = NULL, send_at = now() + interval '59 minutes'"
    )
    counts = []
    for _ in range(4):
        assert await recovery.round() == {}
        counts.append(len(await waiting(recovery)))
    assert counts == [10, 20, 25, 25]
    assert sorted(await waiting(recovery)) == ids


async def test_an_email_that_its_ingress_did_not_live_to_publish_is_found_behind_others(
    recovery: RecoveryWorld,
) -> None:
    (first,) = await schedule(recovery, minutes=59.5)
    await recovery.round()
    assert list(await waiting(recovery)) == [first]
    (lost,) = await schedule(recovery, minutes=5)
    await recovery.log.change(lost, "updated_at = now()")  # too new to be looked at as a lost one
    assert await recovery.round() == {}
    assert sorted(await waiting(recovery)) == sorted([first, lost])


async def test_a_step_that_failed_goes_on_from_where_it_was(recovery: RecoveryWorld) -> None:
    ids = await schedule(recovery, SEVERAL, minutes=59)
    await recovery.redis.set(recovery.keys.parked, "not a hash")
    with pytest.raises(Exception, match="Redis"):
        await recovery.round()
    await recovery.redis.delete(recovery.keys.parked)
    await recovery.round()
    assert sorted(await waiting(recovery)) == ids


async def test_a_takeover_looks_at_everything_that_is_due(recovery: RecoveryWorld) -> None:
    await schedule(recovery, minutes=59.5)
    await recovery.round()
    (missed,) = await schedule(recovery, minutes=53)
    other = recovery.build(CollectorRegistry())
    await other.run_once()
    assert missed in await waiting(recovery)


async def test_a_first_time_far_in_the_past_holds_nobody_up(recovery: RecoveryWorld) -> None:
    ids = await recovery.accept(send_at=datetime(1, 1, 2, tzinfo=UTC))
    for _ in range(3):
        await recovery.round()
    assert await recovery.on_streams() == ids
