"""Real processes that are stopped, killed and cut off in the midst of their work."""

import asyncio
import re
import signal
import time
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import pytest

from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest
from sred_email_core.queue.keys import GROUP, Lane
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.sandbox.rules import Action, Rule
from support.tcp_proxy import TcpProxy
from support.world import World, email_request, until

CLAIM_IDLE_S = 2.0
RECOVERY = {"SRED_EMAIL_CLAIM_IDLE": str(CLAIM_IDLE_S), "SRED_EMAIL_PROVIDER_TIMEOUT": "1.5"}
SECRET = "reset-link-c0ffee"


@pytest.fixture
async def to_postgres(postgres: PostgresServer) -> AsyncIterator[TcpProxy]:
    """What stands between a process and PostgreSQL."""
    port = urlsplit(postgres.dsn).port
    assert port is not None
    async with TcpProxy(port) as proxy:
        yield proxy


def through(proxy: TcpProxy, dsn: str) -> dict[str, str]:
    """The environment of a process whose way to PostgreSQL is the proxy."""
    return {"SRED_EMAIL_POSTGRES_DSN": re.sub(r":\d+/", f":{proxy.port}/", dsn)}


async def asked(world: World) -> bool:
    """Whether the provider has been asked."""
    return bool(world.requests)


async def owners(world: World) -> set[bytes]:
    """Who holds entries."""
    pending: Any = await world.redis.xpending_range(world.keys.stream(Lane.NORMAL), GROUP, "-", "+", 100)
    return {entry["consumer"] for entry in pending}


async def send_many(world: World, subjects: list[str]) -> list[str]:
    """Have emails accepted in one call; their ids."""
    request = BatchSendEmailsRequest(requests=[email_request(subject) for subject in subjects])
    answer = await world.dispatch().BatchSendEmails(request, timeout=10)
    return [result.response.email_id for result in answer.results]


async def test_hazard_22_with_postgres_away_sigterm_gives_back_at_once_what_was_not_begun(
    world: World, to_postgres: TcpProxy, dsn: str
) -> None:
    await world.start("ingress")
    first = await world.start("consumer", **through(to_postgres, dsn))
    await to_postgres.refuse()
    subjects = [f"kept {n}" for n in range(3)]
    ids = await send_many(world, subjects)
    await until(lambda: owners(world), "the emails are taken")
    began = time.monotonic()
    first.process.send_signal(signal.SIGTERM)
    assert await first.process.wait(10) == 0
    assert time.monotonic() - began < 2
    assert await owners(world) <= {b"orphans"}
    await world.start("consumer")
    for email_id, subject in zip(ids, subjects, strict=True):
        await world.wait_for(email_id, "SUCCESS", timeout_s=2)  # sooner than the claim time
        assert world.deliveries(subject) == 1
    assert len(world.requests) <= len(ids)
    await world.assert_redis_is_clean()


async def test_hazard_22_with_postgres_away_sigterm_finishes_the_request_that_is_under_way(
    world: World, to_postgres: TcpProxy, dsn: str
) -> None:
    await world.start("ingress")
    consumer = await world.start("consumer", **through(to_postgres, dsn))
    world.rules(Rule(action=Action.DELAY, delay_s=0.5))
    email_id = (await world.send("under way")).email_id
    await until(lambda: asked(world), "the provider has been asked")
    await to_postgres.refuse()
    consumer.process.send_signal(signal.SIGTERM)
    await until(lambda: answered(world), "the provider has answered")
    assert consumer.process.alive
    await to_postgres.resume()
    assert await consumer.process.wait(10) == 0
    assert await world.status(email_id) == "SUCCESS"
    assert [request.status for request in world.requests] == [200]
    await world.assert_redis_is_clean()


async def answered(world: World) -> bool:
    """Whether the provider has answered every request."""
    return all(request.status for request in world.requests)


async def test_recovery_from_a_kill_with_batches_in_flight_takes_the_claim_time_and_five_seconds_at_most(
    world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    await world.start("ingress")
    subjects = [f"killed {n}" for n in range(250)]
    ids = await send_many(world, subjects)
    world.rules(Rule(action=Action.ACCEPT_THEN_HANG, times=2))
    first = await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="2", **RECOVERY)
    await until(lambda: two_batches(world), "two batches are under way")
    other = await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="2", **RECOVERY)
    first.process.kill()
    killed_at = time.monotonic()
    for email_id in ids:
        await world.wait_for(email_id, "SUCCESS", timeout_s=20)
    recovery_s = time.monotonic() - killed_at
    with capsys.disabled():
        print(f"\nrecovery from SIGKILL: {recovery_s:.1f} s, claim time {CLAIM_IDLE_S:g} s", end="")  # noqa: T201 - the result
    assert recovery_s <= CLAIM_IDLE_S + 5
    assert other.process.alive
    for subject in subjects:
        assert world.deliveries(subject) == 1
    await world.assert_redis_is_clean()


async def two_batches(world: World) -> bool:
    """Whether two requests of many emails have begun."""
    return len(world.requests) >= 2


async def test_hazard_7_a_consumer_that_is_stopped_while_another_delivers_doubles_nothing(world: World) -> None:
    await world.start("ingress")
    stopped = await world.start("consumer", **RECOVERY)
    world.rules(Rule(action=Action.DELAY, delay_s=0.3))
    ids = await send_many(world, [f"stopped {n}" for n in range(60)])
    await until(lambda: asked(world), "the provider has been asked")
    stopped.process.send_signal(signal.SIGSTOP)
    try:
        await world.start("consumer", **RECOVERY)
        world.rules()
        for email_id in ids:
            await world.wait_for(email_id, "SUCCESS", timeout_s=CLAIM_IDLE_S + 10)
    finally:
        stopped.process.send_signal(signal.SIGCONT)
    await stopped.ready()
    for number in range(60):
        assert world.deliveries(f"stopped {number}") == 1
    await world.assert_redis_is_clean()


async def test_hazard_24_while_redis_hangs_calls_are_answered_within_half_a_second(
    world: World, valkey: ValkeyServer
) -> None:
    await world.start_pair()
    valkey.pause()
    try:
        began = time.monotonic()
        ids = [(await world.send("hangs 0")).email_id]
        assert time.monotonic() - began < 0.5
        more = await asyncio.gather(*(world.send(f"hangs {n}") for n in range(1, 20)))
        assert time.monotonic() - began < 1
    finally:
        valkey.resume()
    ids += [answer.email_id for answer in more]
    for number, email_id in enumerate(ids):
        await world.wait_for(email_id, "SUCCESS")
        assert world.deliveries(f"hangs {number}") == 1
    await world.assert_redis_is_clean()


async def test_hazard_28_of_an_email_that_has_ended_nothing_that_it_said_is_left_anywhere(world: World) -> None:
    ingress, consumer = await world.start_pair()
    world.rules(
        Rule(action=Action.ACCEPT_THEN_500, subject=re.compile("repeated"), times=1),
        Rule(
            status=429, name="rate_limit_exceeded", subject=re.compile("parked"), headers={"retry-after": "1"}, times=1
        ),
        Rule(status=422, name="validation_error", message=f"{SECRET} is bad", subject=re.compile("rejected")),
    )
    ids = {
        s: (await world.send(s, html=f"<p>{SECRET}</p>")).email_id for s in ("sent", "repeated", "parked", "rejected")
    }
    assert await world.wait_for(ids["rejected"]) == "FAILED"
    assert SECRET in await everything_in_postgres(world)  # a dead letter keeps its content until it is handled
    for subject in ("sent", "repeated", "parked"):
        assert await world.wait_for(ids[subject]) == "SUCCESS"
    await world.pool.execute("DELETE FROM email_dead_letters")
    await world.pool.execute("DELETE FROM email_events WHERE email_id = $1::text::uuid", ids["rejected"])
    await world.pool.execute("DELETE FROM email_send_log WHERE status = 'FAILED'")
    await world.redis.delete(world.keys.dlq, world.keys.letters)
    await world.assert_redis_is_clean()
    assert SECRET not in await everything_in_postgres(world)
    assert SECRET not in await everything_in_redis(world)
    logs = ingress.process.log.read_text() + consumer.process.log.read_text()
    assert ids["sent"] in logs
    assert "<p>" not in logs
    assert "ada@example.com" not in logs


async def everything_in_postgres(world: World) -> str:
    """Every row of every table, as text."""
    tables = await world.pool.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    rows = [row for t in tables for row in await world.pool.fetch(f"SELECT * FROM {t['tablename']}")]  # noqa: S608 - ours
    return "\n".join(str(bytes(v)) if isinstance(v, bytes) else str(v) for row in rows for v in row.values())


async def everything_in_redis(world: World) -> str:
    """Every key with its value, as Redis writes it to disk, and as text."""
    keys = await world.redis.keys("*")
    dumps = [await world.redis.dump(key) for key in keys]
    hashes = [await world.redis.hgetall(key) for key in keys if await world.redis.type(key) == b"hash"]
    return str(keys) + str(dumps) + str(hashes)
