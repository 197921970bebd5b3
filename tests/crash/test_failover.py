import asyncio
import re
from collections.abc import AsyncIterator, Awaitable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sred_email_core.queue.keys import GROUP
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.ports import LOOPBACK
from sred_email_local.sandbox.rules import Action, Rule
from sred_email_local.sandbox.server import SandboxServer
from support.tcp_proxy import TcpProxy
from support.world import World, until

ENDS_S = 40.0


class Pair:
    """A Valkey, its replica and the services' way to whichever of them is in charge.

    Replication goes through a proxy: while that is stalled, the primary takes writes that a failover loses.
    """

    def __init__(self, primary: ValkeyServer, replica: ValkeyServer, replication: TcpProxy, front: TcpProxy) -> None:
        self.primary = primary
        self.replica = replica
        self.replication = replication
        self.front = front

    async def in_step(self) -> None:
        """Wait until the replica has every write."""

        async def caught_up() -> bool:
            ours, theirs = await _replication(self.primary), await _replication(self.replica)
            return theirs["master_link_status"] == "up" and ours["master_repl_offset"] == theirs["slave_repl_offset"]

        await until(caught_up, "the replica has caught up")

    def stop_replicating(self) -> None:
        """From here on, what the primary takes is lost with it."""
        self.replication.stall()

    async def fail_over(self) -> None:
        """The primary is gone at once, the replica takes its place."""
        self.primary.kill()
        async with Redis.from_url(self.replica.url) as redis:
            await redis.replicaof("NO", "ONE")
        self.front.lead_to(self.replica.port)


@pytest.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    async with (
        ValkeyServer(tmp_path / "primary", extra_args=["--repl-diskless-sync-delay", "0"]) as primary,
        TcpProxy(primary.port) as replication,
        TcpProxy(primary.port) as front,
        ValkeyServer(tmp_path / "replica", extra_args=["--replicaof", LOOPBACK, str(replication.port)]) as replica,
    ):
        yield Pair(primary, replica, replication, front)


@pytest.fixture
async def world(tmp_path: Path, dsn: str, pair: Pair, sandbox: SandboxServer) -> AsyncIterator[World]:
    url = f"redis://{LOOPBACK}:{pair.front.port}/0"
    async with (
        open_redis(url, timeout=timedelta(seconds=5)) as redis,
        World(tmp_path, dsn, url, redis, sandbox) as system,
    ):
        yield system


async def test_a_backlog_that_a_failover_forgets_is_sent_once(world: World, pair: Pair) -> None:
    await world.start("ingress")
    await send(world, "known", 30)
    await pair.in_step()
    pair.stop_replicating()
    forgotten = await send(world, "forgotten", 30)
    world.rules(Rule(action=Action.DELAY, delay_s=0.2))
    # Some of what the replica thinks is waiting has long been sent when it takes over.
    await world.start("consumer", SRED_EMAIL_CONSUMER_SLOTS="1", SRED_EMAIL_RESEND_BATCH_SIZE="1")
    await until(lambda: delivered(world, 5), "some are delivered")
    await pair.fail_over()
    assert not await placed(world, forgotten)
    world.rules()
    await assert_each_is_sent_once(world, {"known": 30, "forgotten": 30})


@pytest.mark.parametrize(("batch_size", "count"), [("1", 12), ("100", 40)])
async def test_a_failover_in_the_middle_of_sends_doubles_none(
    world: World, pair: Pair, batch_size: str, count: int
) -> None:
    settings = {"SRED_EMAIL_CONSUMER_SLOTS": "4", "SRED_EMAIL_RESEND_BATCH_SIZE": batch_size}
    world.rules(Rule(action=Action.DELAY, delay_s=1.0))
    await asyncio.gather(world.start("ingress"), *(world.start("consumer", **settings) for _ in range(2)))
    await send(world, "known", count)
    await until(lambda: asked(world, "known"), "known ones are being sent")
    await pair.in_step()
    pair.stop_replicating()
    await send(world, "forgotten", count)
    await until(lambda: asked(world, "forgotten"), "forgotten ones are being sent")
    await pair.fail_over()
    await assert_each_is_sent_once(world, {"known": count, "forgotten": count})
    assert (max(request.n for request in world.requests) > 1) == (batch_size != "1")


async def test_a_failover_and_the_death_of_a_consumer_at_once_double_none(world: World, pair: Pair) -> None:
    world.rules(Rule(action=Action.DELAY, delay_s=1.0))
    _, first = await world.start_pair()
    await send(world, "known", 12)
    await pair.in_step()
    pair.stop_replicating()
    await send(world, "forgotten", 12)
    await until(lambda: asked(world, "forgotten"), "forgotten ones are being sent")
    first.process.kill()
    await pair.fail_over()
    world.rules()
    await world.start("consumer")
    await assert_each_is_sent_once(world, {"known": 12, "forgotten": 12})


async def test_sends_that_wait_for_their_repeat_when_the_primary_dies_are_repeated(world: World, pair: Pair) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.ACCEPT_THEN_500, headers={"retry-after": "2"}))
    known = await send(world, "known", 10)
    await waiting(world, known)
    await pair.in_step()
    pair.stop_replicating()
    forgotten = await send(world, "forgotten", 10)
    await waiting(world, forgotten)
    world.rules()
    # The known ones are repeated and done on the primary alone: the replica wants to repeat them once more.
    await asyncio.gather(*(world.wait_for(email_id, "SUCCESS") for email_id in known))
    await pair.fail_over()
    await assert_each_is_sent_once(world, {"known": 10, "forgotten": 10})


async def test_repeats_that_only_the_primary_knew_of_come_up_again(world: World, pair: Pair) -> None:
    await world.start_pair()
    await pair.in_step()
    pair.stop_replicating()
    world.rules(Rule(action=Action.ACCEPT_THEN_500, headers={"retry-after": "3"}))
    forgotten = await send(world, "forgotten", 20)
    await waiting(world, forgotten)
    await pair.fail_over()
    world.rules()
    assert not await placed(world, forgotten)
    await assert_each_is_sent_once(world, {"forgotten": 20})


async def test_parked_emails_that_only_the_primary_knew_of_are_published_again(world: World, pair: Pair) -> None:
    await world.start_pair()
    limited = Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "2"})
    world.rules(limited)
    await send(world, "known", 10)
    await until(lambda: has(world.redis.zcard(world.keys.retry)), "some are parked")
    await pair.in_step()
    pair.stop_replicating()
    forgotten = await send(world, "forgotten", 10)
    await pair.fail_over()
    world.rules()
    assert not await placed(world, forgotten)
    await assert_each_is_sent_once(world, {"known": 10, "forgotten": 10})


async def test_dead_letters_that_only_the_primary_showed_are_shown_again(world: World, pair: Pair) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.REJECT, subject=re.compile("refused"), status=422, name="validation_error"))
    await pair.in_step()
    pair.stop_replicating()
    refused = await send(world, "refused", 5)
    for email_id in refused:
        assert await world.wait_for(email_id) == "FAILED"
    await pair.fail_over()

    async def shown() -> bool:
        return await world.redis.xlen(world.keys.dlq) == len(refused)

    await until(shown, "the DLQ shows them", timeout_s=ENDS_S)


async def send(world: World, name: str, count: int) -> list[str]:
    answers = await asyncio.gather(*(world.send(f"{name} {n}") for n in range(count)))
    return [answer.email_id for answer in answers]


async def delivered(world: World, at_least: int) -> bool:
    return len(world.sandbox.provider.mailbox) >= at_least


async def asked(world: World, name: str) -> bool:
    return any(subject.startswith(name) for request in world.requests for subject in request.subjects)


async def waiting(world: World, email_ids: list[str]) -> None:
    await asyncio.gather(*(world.wait_for(email_id, "RETRYING") for email_id in email_ids))
    for email_id in email_ids:
        await until(lambda email_id=email_id: _is_parked(world, email_id), "its place is that of a repeat")  # type: ignore[misc]


async def _is_parked(world: World, email_id: str) -> bool:
    place: Any = await world.redis.hget(world.keys.places, email_id)
    return place is not None and not place.startswith(b"stream")


async def placed(world: World, email_ids: list[str]) -> list[str]:
    """Those that the Redis in charge knows."""
    places = await world.redis.hmget(world.keys.places, email_ids)
    return [email_id for email_id, place in zip(email_ids, places, strict=True) if place is not None]


async def assert_each_is_sent_once(world: World, sent: dict[str, int]) -> None:
    async def all_ended() -> bool:
        return not await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE status <> 'SUCCESS'")

    await until(all_ended, "every email has ended", timeout_s=ENDS_S)
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log") == sum(sent.values())
    subjects = [f"{name} {n}" for name, count in sent.items() for n in range(count)]
    assert {subject: world.deliveries(subject) for subject in subjects} == dict.fromkeys(subjects, 1)
    await world.assert_redis_is_clean()
    for stream in world.keys.streams:
        assert (await world.redis.xpending(stream, GROUP))["pending"] == 0


async def has(count: Awaitable[int]) -> bool:
    return await count > 0


async def _replication(server: ValkeyServer) -> dict[str, object]:
    async with Redis.from_url(server.url) as redis:  # not as services do it: they read nothing from a replica
        return dict(await redis.info("replication"))
