"""The primary of a cluster, or one behind Sentinels, dies under load with its last writes: nothing is lost or doubled.

The services run as the users that docs/redis.md gives them, and do nothing that these may not.
"""

import asyncio
import itertools
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from sred_email_core.queue.keys import GROUP, QueueKeys
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from sred_email_local.sandbox.rules import Action, Rule
from sred_email_local.sandbox.server import SandboxServer
from support.least_users import PASSWORD, users
from support.redis_cluster import PREFIX, RedisCluster
from support.redis_sentinels import RedisSentinels
from support.world import World, until

Servers = RedisCluster | RedisSentinels
ENDS_S = 60.0


@pytest.fixture(params=["cluster", "sentinels"])
def servers(request: pytest.FixtureRequest) -> Servers:
    found: Servers = request.getfixturevalue(request.param)
    return found


@pytest.fixture
async def world(tmp_path: Path, dsn: str, servers: Servers, sandbox: SandboxServer) -> AsyncIterator[World]:
    prefix = PREFIX if isinstance(servers, RedisCluster) else "sred:email"
    everywhere = servers.nodes if isinstance(servers, RedisCluster) else servers.pair
    for server in everywhere:
        for name, rules in users(prefix, cluster=isinstance(servers, RedisCluster)).items():
            await servers.command(server, "ACL", "SETUSER", name, *rules)
    async with (
        open_redis(servers.url, timeout=timedelta(seconds=5), prefix=prefix) as redis,
        World(tmp_path, dsn, servers.url, redis, sandbox) as system,
    ):
        await redis.flushall()
        system.keys = QueueKeys(prefix)
        system.env["SRED_EMAIL_REDIS_PREFIX"] = prefix
        system.least_users = True
        yield system
    for server in everywhere:
        if server.process.alive:
            await servers.command(server, "CONFIG", "SET", "masteruser", "", "masterauth", "")
    await servers.restore()


async def test_a_primary_that_dies_under_load_with_its_last_writes_loses_and_doubles_nothing(
    world: World, servers: Servers
) -> None:
    for kind in ("ingress", "consumer", "consumer"):
        world.launch(kind)
    await asyncio.gather(*(service.ready() for service in world.services))
    world.rules(Rule(action=Action.DELAY, delay_s=0.3))
    load = Load(world)
    async with load.running():
        await until(lambda: load.sent(30), "some are sent")
        primary = await servers.in_charge()
        (replica,) = (server for server in servers.pair if server is not primary)
        await stop_replicating(servers, primary, replica)
        await until(lambda: load.sent(60), "more are sent, of which the replica knows nothing")
        assert await offset(servers, replica) < await offset(servers, primary)
        primary.kill()
        await until(lambda: is_in_charge(servers, replica), "the replica is in charge", timeout_s=ENDS_S)
        at = len(load.accepted)
        await until(lambda: load.sent(at + 30), "more are sent to the new primary", timeout_s=ENDS_S)
    world.rules()
    await assert_each_is_sent_once(world, load.accepted)
    denied = [entry for entry in await servers.command(replica, "ACL", "LOG") if b"sred-email" in str(entry).encode()]
    assert denied == []


class Load:
    """Callers that never stop, and repeat what was not answered."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count()
        self.accepted: list[str] = []

    async def sent(self, count: int) -> bool:
        return len(self.accepted) >= count

    def running(self) -> "_Running":
        return _Running([self._call() for _ in range(4)])

    async def _call(self) -> None:
        while True:
            subject = f"email {next(self._numbers)}"
            for _ in range(50):
                try:
                    await self._world.send(subject)
                except grpc.aio.AioRpcError:
                    continue
                self.accepted.append(subject)
                break
            await asyncio.sleep(0.05)  # a pace, not a wait


class _Running:
    def __init__(self, calls: list[Any]) -> None:
        self._calls = calls

    async def __aenter__(self) -> None:
        self._tasks = [asyncio.create_task(call) for call in self._calls]

    async def __aexit__(self, *_: object) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)


async def stop_replicating(servers: Servers, primary: ValkeyServer, replica: ValkeyServer) -> None:
    """From here on, what the primary takes is lost with it: its replica shows a user that there is not."""
    await servers.command(replica, "CONFIG", "SET", "masteruser", "nobody", "masterauth", PASSWORD)
    await servers.command(primary, "CLIENT", "KILL", "TYPE", "replica")

    async def cut() -> bool:
        return bool((await servers.command(replica, "INFO", "replication"))["master_link_status"] == "down")

    await until(cut, "the replica is cut off")


async def offset(servers: Servers, server: ValkeyServer) -> int:
    told = await servers.command(server, "INFO", "replication")
    return int(told["slave_repl_offset"] if told["role"] == "slave" else told["master_repl_offset"])


async def is_in_charge(servers: Servers, server: ValkeyServer) -> bool:
    return (await servers.command(server, "ROLE"))[0] == b"master" and await servers.in_charge() is server


async def assert_each_is_sent_once(world: World, subjects: list[str]) -> None:
    async def all_ended() -> bool:
        return not await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE status <> 'SUCCESS'")

    await until(all_ended, "every email has ended", timeout_s=ENDS_S)
    accepted = {row["subject"] for row in await world.pool.fetch("SELECT subject FROM email_send_log")}
    assert accepted >= set(subjects)  # a call that was broken off may have been accepted, too
    assert {subject: world.deliveries(subject) for subject in accepted} == dict.fromkeys(accepted, 1)
    await world.assert_redis_is_clean()
    for stream in world.keys.streams:
        assert (await world.redis.xpending(stream, GROUP))["pending"] == 0
