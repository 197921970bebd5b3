"""What happened in each minute, counted from the events of the log."""

import asyncio
import uuid
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest
from integration.core.log_builder import LogWorld

from sred_email_core.email_send_log.minutes import Minute, MinuteLog

INSERT = "INSERT INTO email_events (email_id, what, status, at) VALUES ($1, $2, 'SUCCESS', now() + $3)"
NOW = timedelta()


@pytest.fixture
def minutes(pool: "asyncpg.Pool[Any]") -> MinuteLog:
    return MinuteLog(pool)


async def count_all(minutes: MinuteLog) -> None:
    while await minutes.count():
        pass


async def told(minutes: MinuteLog) -> tuple[int, int, int]:
    """How many were accepted, sent and given up in the last hour."""
    latest = await minutes.latest(60)
    return sum(m.accepted for m in latest), sum(m.sent for m in latest), sum(m.given_up for m in latest)


async def test_each_event_counts_once_however_many_count_at_once(
    world_of_log: LogWorld, minutes: MinuteLog, pool: "asyncpg.Pool[Any]"
) -> None:
    ids = await world_of_log.accept(5)
    for email_id, what in [(ids[0], "SENT"), (ids[1], "SENT"), (ids[2], "FAILED"), (ids[3], "POSTPONED")]:
        await pool.execute(INSERT, uuid.UUID(email_id), what, timedelta(seconds=1))
    await asyncio.gather(*(count_all(minutes) for _ in range(4)))
    await count_all(minutes)
    assert await told(minutes) == (5, 2, 1)
    (took,) = [minute.within(0.5) for minute in await minutes.latest(60) if minute.sent]
    assert took is not None
    assert timedelta(milliseconds=850) < took < timedelta(milliseconds=1300)


async def test_an_event_whose_transaction_commits_late_is_counted_all_the_same(
    world_of_log: LogWorld, minutes: MinuteLog, pool: "asyncpg.Pool[Any]"
) -> None:
    async with pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.execute(INSERT, uuid.uuid4(), "FAILED", NOW)
        await world_of_log.accept(3)
        await count_all(minutes)
        assert await told(minutes) == (0, 0, 0)
        await transaction.commit()
    await count_all(minutes)
    assert await told(minutes) == (3, 0, 1)


async def test_many_events_are_counted_in_bounded_steps(world_of_log: LogWorld, minutes: MinuteLog) -> None:
    await count_all(minutes)
    for _ in range(5):
        await world_of_log.accept(2)
    steps = 1
    while await minutes.count(at_most=2):
        steps += 1
    assert steps > 2
    assert await told(minutes) == (10, 0, 0)


async def test_a_mark_that_a_dump_brought_from_a_longer_history_begins_anew(
    world_of_log: LogWorld, minutes: MinuteLog, pool: "asyncpg.Pool[Any]"
) -> None:
    await pool.execute("UPDATE email_minutes_mark SET transaction_id = '123456789012'")
    await count_all(minutes)
    await world_of_log.accept(2)
    await count_all(minutes)
    assert await told(minutes) == (2, 0, 0)


async def test_minutes_of_more_than_a_day_ago_are_forgotten(minutes: MinuteLog, pool: "asyncpg.Pool[Any]") -> None:
    for ago in (timedelta(hours=25), timedelta(hours=2)):
        await pool.execute(INSERT, uuid.uuid4(), "ACCEPTED", -ago)
    await count_all(minutes)
    await count_all(minutes)
    assert await told(minutes) == (0, 0, 0)
    assert await pool.fetchval("SELECT count(*) FROM email_minutes") == 1


def test_latency_is_told_to_about_an_eighth() -> None:
    minute = Minute(datetime.now(UTC), 0, 100, 0, Counter({0: 1, 15: 97, 30: 2}))
    assert minute.within(0.5) == timedelta(milliseconds=2 ** (14.5 / 3))
    assert minute.within(0.99) == timedelta(milliseconds=2 ** (29.5 / 3))
    assert Minute(datetime.now(UTC), 1, 0, 0, {}).within(0.5) is None
