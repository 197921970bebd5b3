"""A queue that fills up: refused in order, nothing lost, and it resumes by itself; and Redis that must not be used."""

import asyncio
import contextlib
import itertools
import json
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, SendEmailResponse
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.server import SandboxServer
from support.world import World, email_request, until

FULL = grpc.StatusCode.RESOURCE_EXHAUSTED
MEGABYTE = 1 << 20


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A Valkey that a test may fill and reconfigure."""
    async with ValkeyServer(tmp_path / "own-valkey") as server:
        yield server


@pytest.fixture
async def own_world(tmp_path: Path, dsn: str, own_valkey: ValkeyServer, sandbox: SandboxServer) -> AsyncIterator[World]:
    """The system on it."""
    async with (
        open_redis(own_valkey.url, timeout=timedelta(seconds=5)) as redis,
        World(tmp_path, dsn, own_valkey.url, redis, sandbox) as system,
    ):
        yield system


async def offer(world: World, subject: str, priority: str = "NORMAL", **fields: str) -> SendEmailResponse | None:
    """Offer one email; None: it is refused for now, and told when to come again."""
    try:
        return await world.send(subject, priority=email_pb2.Priority.Value(f"PRIORITY_{priority}"), **fields)
    except grpc.aio.AioRpcError as e:
        if e.code() is not FULL:
            raise
        status: Status | None = rpc_status.from_call(cast("grpc.Call", e))
    assert status is not None
    later = RetryInfo()
    assert status.details[0].Unpack(later)
    assert later.retry_delay.ToTimedelta() == timedelta(seconds=5)
    return None


async def offered(world: World, subject: str) -> SendEmailResponse:
    """Offer one email until it is accepted, as a caller that heeds RESOURCE_EXHAUSTED does."""

    async def accepted() -> SendEmailResponse | None:
        return await offer(world, subject)

    answer = await until(accepted, f"{subject} is accepted")
    assert answer is not None
    return answer


async def metric(world: World, name: str) -> float:
    """A sample of the ingress."""
    _, text = await world.services[0].get("/metrics")
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(f"{name} "))


async def test_hazard_12_a_backlog_that_is_full_refuses_by_lane_and_takes_more_when_it_is_drained(
    world: World,
) -> None:
    await world.start("ingress", SRED_EMAIL_MAX_BACKLOG="20")
    accepted = {}
    for priority, most in (("LOW", 16), ("NORMAL", 18), ("HIGH", 20)):
        for n in range(25):
            subject = f"{priority} {n}"
            answer = await offer(world, subject, priority)
            if answer is not None:
                accepted[subject] = answer.email_id
        assert len(accepted) == most
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") == 20
    assert sum([await world.redis.xlen(stream) for stream in world.keys.streams]) == 20

    async def shown() -> bool:
        return await metric(world, "sred_email_ingress_pressure") == 1.0

    await until(shown, "the pressure is shown")
    assert await metric(world, 'sred_email_ingress_emails_total{outcome="overloaded"}') == 55
    again = await offer(world, "LOW 0", "LOW")
    assert again is not None
    assert (again.email_id, again.deduplicated) == (accepted["LOW 0"], True)

    batch = BatchSendEmailsRequest(requests=[email_request(subject) for subject in ("LOW 1", "new")])
    batch.requests[0].priority = email_pb2.PRIORITY_LOW
    known, new = (await world.dispatch().BatchSendEmails(batch, timeout=10)).results
    assert known.response.deduplicated
    assert new.error.code == FULL.value[0]

    await world.start("consumer")
    late = await offered(world, "late")
    for email_id in (*accepted.values(), late.email_id):
        assert await world.wait_for(email_id) == "SUCCESS"
    assert world.deliveries("late") == 1
    await world.assert_redis_is_clean()


async def test_hazard_12_while_redis_is_away_the_log_bounds_the_backlog(
    own_world: World, own_valkey: ValkeyServer
) -> None:
    world = own_world
    first = await world.start("ingress", SRED_EMAIL_MAX_BACKLOG="20")
    await world.start("ingress", SRED_EMAIL_MAX_BACKLOG="20")
    own_valkey.kill()
    answers = [await offer(world, f"away {n}") for n in range(25)]
    assert sum(answer is not None for answer in answers) == 18
    first.process.kill()  # the other one knows from the log only what the first has accepted

    more = itertools.count()

    async def refused() -> bool:
        return await offer(world, f"more {next(more)}") is None

    await until(refused, "the other ingress has counted what is open")
    await own_valkey.start()
    await world.start("consumer")
    for answer in answers:
        if answer is not None:
            assert await world.wait_for(answer.email_id) == "SUCCESS"
    late = await offered(world, "late")
    assert await world.wait_for(late.email_id) == "SUCCESS"
    for n, answer in enumerate(answers):
        assert world.deliveries(f"away {n}") == (1 if answer is not None else 0)


async def test_hazard_12_with_redis_at_maxmemory_nothing_is_lost_and_service_resumes_by_itself(
    own_world: World,
) -> None:
    world = own_world
    await world.start("ingress")
    await ScriptRunner(world.redis, world.keys).ensure_groups()  # as a consumer did that ran before
    accepted = {"before": (await world.send("before")).email_id}
    await fill(world)
    refusals = 0
    for n in range(40):  # the first few come before the next sample: Redis refuses them, the log has them
        answer = await offer(world, f"full {n}", "HIGH")
        refusals += answer is None
        if answer is not None:
            accepted[f"full {n}"] = answer.email_id
        await asyncio.sleep(0.02)
    assert refusals > 0
    again = await world.send("before")
    assert (again.email_id, again.deduplicated) == (accepted["before"], True)
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") == len(accepted)
    await world.start("consumer")
    assert await world.wait_for(accepted["before"]) == "SUCCESS"  # what is in Redis is delivered while it is full
    await world.redis.delete("others")
    accepted["freed"] = (await offered(world, "freed")).email_id
    for subject, email_id in accepted.items():
        assert await world.wait_for(email_id) == "SUCCESS", subject
        assert world.deliveries(subject) == 1
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") == len(accepted)
    await world.assert_redis_is_clean()


async def fill(world: World) -> None:
    """Let something else use more memory than Redis may."""
    await world.redis.set("others", b"x" * (16 * MEGABYTE))
    await world.redis.config_set("maxmemory", 15 * MEGABYTE)


async def test_hazard_24_a_redis_that_hangs_lets_calls_be_answered(own_world: World, own_valkey: ValkeyServer) -> None:
    world = own_world
    await world.start_pair()
    await world.send("before")
    own_valkey.pause()
    try:
        began = asyncio.get_running_loop().time()
        answers = await asyncio.gather(*(world.send(f"hanging {n}") for n in range(100)))
        took_s = asyncio.get_running_loop().time() - began
    finally:
        own_valkey.resume()
    assert took_s < 1.9
    for n, answer in enumerate(answers):
        assert await world.wait_for(answer.email_id) == "SUCCESS"
        assert world.deliveries(f"hanging {n}") == 1


@pytest.mark.parametrize("kind", ["ingress", "consumer"])
async def test_hazard_12_a_service_does_not_start_on_a_redis_that_evicts(own_world: World, kind: str) -> None:
    await own_world.redis.config_set("maxmemory-policy", "allkeys-lru")
    service = own_world.launch(kind)
    assert await service.process.wait(15) == 2
    told = [line for line in service.process.log.read_text().splitlines() if not line.startswith("{")]
    assert len(told) == 1
    assert told[0].startswith("SRED_EMAIL_REDIS_URL: ")
    assert "allkeys-lru" in told[0]
    assert "noeviction" in told[0]


@pytest.mark.parametrize("kind", ["ingress", "consumer"])
async def test_a_service_that_learns_later_that_redis_evicts_is_not_ready_and_says_why(
    own_world: World, own_valkey: ValkeyServer, kind: str
) -> None:
    await own_valkey.stop()
    service = own_world.launch(kind)

    async def listens() -> bool:
        with contextlib.suppress(OSError):
            return (await service.get("/healthz"))[0] == 200
        return False

    await until(listens, f"the {kind} waits for Redis")
    await own_valkey.start()
    await own_world.redis.config_set("maxmemory-policy", "volatile-lru")

    async def problem() -> str:
        status, body = await service.get("/readyz")
        return str(json.loads(body)["problems"].get("Redis fitness", "")) if status == 503 else ""

    assert "volatile-lru" in await until(problem, f"the {kind} says why it is not ready")
    await own_world.redis.config_set("maxmemory-policy", "noeviction")
    assert (await service.ready())["status"] == "ready"
