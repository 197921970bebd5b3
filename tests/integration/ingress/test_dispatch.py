"""What becomes of calls, whatever comes between: expiry, retries, cancelled calls, and a Redis that hangs."""

import asyncio
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from integration.ingress.ingress_world import IngressWorld
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred_email_core.errors import (
    DeadlinePassedError,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    OverloadedError,
    UnstorableError,
)
from sred_email_core.postgres import open_pool
from sred_email_core.queue.codec import decode
from sred_email_core.queue.keys import Lane
from sred_email_core.redis_connection import open_redis
from sred_email_ingress import dispatch
from sred_email_local.engines import ValkeyServer
from support.world import email_request, until


def stamp(when: datetime) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(when)
    return made


def from_now(**delta: float) -> Timestamp:
    return stamp(datetime.now(UTC) + timedelta(**delta))


async def test_the_expiry_that_a_call_names_is_kept_shown_and_travels_along(ingress: IngressWorld) -> None:
    expire_at = datetime(2999, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
    answer = await ingress.send("a", kind=email_pb2.EMAIL_KIND_PASSWORD_RESET, expire_at=stamp(expire_at))
    assert (await ingress.row(answer.email_id))["expire_at"] == expire_at
    assert (await ingress.parts.dispatch.get(email_id=answer.email_id)).expire_at == expire_at
    ((_, fields),) = await ingress.redis.xrange(ingress.keys.stream(Lane.HIGH))
    assert decode(fields, Lane.HIGH).expire_at == expire_at
    assert fields[b"hints"].split()[2] == b"%d" % (expire_at.timestamp() * 1000)


@pytest.mark.parametrize(
    ("kind", "lifetime"),
    [
        ("PASSWORD_RESET", timedelta(hours=1)),
        ("EMAIL_CONFIRMATION", timedelta(days=1)),
        ("SYSTEM_NOTIFICATION", None),
    ],
)
async def test_without_one_the_kind_says_when_it_expires_counted_from_acceptance(
    ingress: IngressWorld, kind: str, lifetime: timedelta | None
) -> None:
    answer = await ingress.send("a", kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{kind}"))
    expected = None if lifetime is None else answer.accepted_at + lifetime
    assert (await ingress.row(answer.email_id))["expire_at"] == expected
    lane = Lane.NORMAL if lifetime is None else Lane.HIGH
    ((_, fields),) = await ingress.redis.xrange(ingress.keys.stream(lane))
    assert decode(fields, lane).expire_at == expected


async def test_which_kinds_expire_is_configurable(pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
    ingress = IngressWorld(pool, redis, default_expiry="WELCOME=0.5")
    for kind, lifetime in (("WELCOME", timedelta(seconds=0.5)), ("PASSWORD_RESET", None)):
        answer = await ingress.send(kind, kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{kind}"))
        expected = None if lifetime is None else answer.accepted_at + lifetime
        assert (await ingress.row(answer.email_id))["expire_at"] == expected


@pytest.mark.parametrize("expire_at", [Timestamp(), Timestamp(seconds=-62_135_596_800), from_now(seconds=-1)])
async def test_a_new_email_that_has_expired_already_is_refused_by_name(
    ingress: IngressWorld, expire_at: Timestamp
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await ingress.send("late", expire_at=expire_at)
    assert [violation.field for violation in refused.value.violations] == ["expire_at"]
    assert await ingress.subjects() == []
    assert await ingress.published() == 0
    assert ingress.count("invalid") == 1


async def test_everything_that_speaks_against_a_new_email_is_named(pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
    ingress = IngressWorld(pool, redis, default_from=None)
    with pytest.raises(InvalidRequestError) as refused:
        await ingress.send("late", expire_at=from_now(seconds=-1))
    assert [violation.field for violation in refused.value.violations] == ["from_address", "expire_at"]


async def test_hazard_23_a_deadlock_is_settled_by_writing_the_group_again(ingress: IngressWorld, dsn: str) -> None:
    async with open_pool(dsn, max_size=1) as other, other.acquire() as rival:
        await rival.execute("SET deadlock_timeout = '1min'")  # so that it is the group that is ended
        transaction = rival.transaction()
        await transaction.start()
        await _insert(rival, "key-b")
        group = [asyncio.create_task(ingress.send(subject)) for subject in ("a", "b")]
        await ingress.until_blocked()
        await _insert(rival, "key-a")  # each waits for the other now, until the group is ended
        await transaction.rollback()
    assert [(await call).deduplicated for call in group] == [False, False]
    assert await ingress.subjects() == ["a", "b"]

    async def deadlocks() -> int:
        counted = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        return int(await ingress.pool.fetchval(counted))

    await until(deadlocks, "the deadlock is counted")


async def _insert(connection: Any, key: str) -> None:
    await connection.execute(
        "INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address,"
        " recipients, subject) VALUES (gen_random_uuid(), $1, $2, 'WELCOME', 'HIGH', 'QUEUED', 'a', '{}', 'rival')",
        key,
        b"f" * 32,
    )


async def test_hazard_23_a_row_that_can_not_be_stored_fails_none_of_its_neighbours(ingress: IngressWorld) -> None:
    await ingress.pool.execute("ALTER TABLE email_send_log ADD CHECK (subject <> 'bad')")
    subjects = [f"good {n}" for n in range(20)] + ["bad"] + [f"more {n}" for n in range(20)]
    results = await asyncio.gather(*(ingress.send(subject) for subject in subjects), return_exceptions=True)
    refused = [subject for subject, result in zip(subjects, results, strict=True) if isinstance(result, Exception)]
    assert refused == ["bad"]
    assert isinstance(results[20], UnstorableError)
    assert await ingress.subjects() == sorted(set(subjects) - {"bad"})
    assert await ingress.published() == 40
    assert (ingress.count("accepted"), ingress.count("invalid")) == (40, 1)


async def test_hazard_23_a_call_cancelled_before_its_flush_leaves_and_one_cancelled_after_it_is_accepted(
    ingress: IngressWorld,
) -> None:
    async with ingress.log_is_locked():
        flushed = [asyncio.create_task(ingress.send(subject)) for subject in ("flushed and cancelled", "flushed")]
        await ingress.until_blocked(1)  # a group is under way: from here on so few calls wait for it
        waiting = [asyncio.create_task(ingress.send(subject)) for subject in ("waiting and cancelled", "waiting")]
        await asyncio.sleep(0)
        for call in (flushed[0], waiting[0]):
            call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting[0]
    assert not (await flushed[1]).deduplicated
    assert not (await waiting[1]).deduplicated
    await ingress.parts.drain()
    assert await ingress.subjects() == ["flushed", "flushed and cancelled", "waiting"]
    again = await ingress.send("flushed and cancelled")  # which also publishes it, as the reconciler would
    assert again.deduplicated
    assert await ingress.published() == 3


async def test_hazard_23_a_call_whose_deadline_passed_before_its_flush_is_not_written(ingress: IngressWorld) -> None:
    async with ingress.log_is_locked():
        flushed = asyncio.create_task(ingress.send("flushed"))
        await ingress.until_blocked(1)
        dispatch = ingress.parts.dispatch
        late = asyncio.create_task(dispatch.send(email_request("late"), time_left_s=0))
        batch = asyncio.create_task(dispatch.send_many([email_request(s) for s in ("b", "c")], time_left_s=0))
        in_time = asyncio.create_task(dispatch.send(email_request("in time"), time_left_s=60))
        await asyncio.sleep(0)
    assert not (await flushed).deduplicated
    assert not (await in_time).deduplicated
    with pytest.raises(DeadlinePassedError):
        await late
    assert [type(result) for result in await batch] == [DeadlinePassedError, DeadlinePassedError]
    assert await ingress.subjects() == ["flushed", "in time"]
    assert ingress.count("late") == 3


async def test_hazard_24_a_redis_that_hangs_holds_no_call_longer_than_its_patience(
    pool: "asyncpg.Pool[Any]", tmp_path: Path
) -> None:
    async with ValkeyServer(tmp_path) as valkey, open_redis(valkey.url, timeout=timedelta(seconds=2)) as redis:
        ingress = IngressWorld(pool, redis)
        first = await ingress.send("before")
        assert await ingress.place(first.email_id) is not None
        valkey.pause()
        try:
            began = time.monotonic()
            answers = [await ingress.send("alone")]
            alone_s = time.monotonic() - began
            began = time.monotonic()
            answers += await asyncio.gather(*(ingress.send(f"many {n}") for n in range(300)))
            many_s = time.monotonic() - began
            again = await ingress.send("before")
        finally:
            valkey.resume()
        assert 0.25 <= alone_s < 1
        assert 0.25 <= many_s < 1.9
        assert again.deduplicated
        assert again.email_id == first.email_id
        assert len({answer.email_id for answer in answers}) == 301
        assert await ingress.pool.fetchval("SELECT count(*) FROM email_send_log WHERE status = 'QUEUED'") == 302
        await ingress.parts.drain()
        after = await ingress.send("alone")
        assert after.deduplicated
        assert await ingress.place(after.email_id) is not None


async def test_hazard_25_a_retry_of_an_accepted_call_is_answered_though_its_expiry_has_passed(
    ingress: IngressWorld,
) -> None:
    first = await ingress.send("a", expire_at=from_now(hours=1))
    retries = [from_now(seconds=-1), from_now(hours=2), Timestamp()]
    for expire_at in retries:
        again = await ingress.send("a", expire_at=expire_at)
        assert (again.email_id, again.deduplicated, again.accepted_at) == (first.email_id, True, first.accepted_at)
    assert (await ingress.send("a")).deduplicated
    assert await ingress.published() == 1
    with pytest.raises(IdempotencyKeyReusedError):
        await ingress.send("b", idempotency_key="key-a", expire_at=from_now(seconds=-1))


async def test_hazard_25_a_retry_is_answered_whatever_the_settings_have_become(
    pool: "asyncpg.Pool[Any]", redis: Redis
) -> None:
    before = IngressWorld(pool, redis)
    kinds = (email_pb2.EMAIL_KIND_PASSWORD_RESET, email_pb2.EMAIL_KIND_QUOTA_WARNING)
    first = [await before.send(str(kind), kind=kind) for kind in kinds]
    after = IngressWorld(
        pool,
        redis,
        default_from=None,
        default_expiry="QUOTA_WARNING=1",
        max_backlog=1,
        allowed_from_domains="b.example",
    )
    await after.parts.backpressure.run_once()
    again = [await after.send(str(kind), kind=kind) for kind in kinds]
    assert [answer.email_id for answer in again] == [answer.email_id for answer in first]
    assert all(answer.deduplicated for answer in again)


async def test_a_retry_publishes_an_email_that_travels_alone_as_such(ingress: IngressWorld) -> None:
    first = await ingress.send("a")
    await ingress.pool.execute("UPDATE email_send_log SET alone = true")
    await ingress.redis.flushall()
    await ingress.send("a")
    ((_, fields),) = await ingress.redis.xrange(ingress.keys.stream(Lane.NORMAL))
    assert fields[b"email_id"].decode() == first.email_id
    assert fields[b"hints"].split()[1] == b"1"


async def test_of_requests_with_one_key_in_one_group_the_first_that_nothing_speaks_against_counts(
    ingress: IngressWorld,
) -> None:
    late = email_request("a", expire_at=from_now(seconds=-1))
    fine = email_request("a", expire_at=from_now(hours=1))
    results = await asyncio.gather(
        *(ingress.send_request(request) for request in (late, fine, late)), return_exceptions=True
    )
    ids = {result.email_id for result in results if not isinstance(result, BaseException)}
    assert len(ids) == 1
    assert [result.deduplicated for result in results if not isinstance(result, BaseException)] == [True, False, True]


async def test_what_is_more_than_a_process_may_have_in_hand_is_refused_with_a_reserve_for_high(
    ingress: IngressWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatch, "_MOST_IN_HAND", 20 * dispatch._ROW_WEIGHT)  # noqa: SLF001 - a smaller process
    async with ingress.log_is_locked():
        under_way = [asyncio.create_task(ingress.send(f"in hand {n}")) for n in range(15)]
        await ingress.until_blocked(1)
        with pytest.raises(OverloadedError) as refused:
            await ingress.send("too much")
        assert refused.value.retry_after == timedelta(seconds=1)
        urgent = asyncio.create_task(ingress.send("urgent", kind=email_pb2.EMAIL_KIND_PASSWORD_RESET))
        await asyncio.sleep(0)
        assert not urgent.done()
    assert not any(acceptance.deduplicated for acceptance in await asyncio.gather(*under_way, urgent))
    assert not (await ingress.send("too much")).deduplicated
