"""Whether a Redis can be worked with: what it is, what it does when it is full, and what this user may do there."""

import importlib.resources
import re
import time
from collections.abc import AsyncIterator, Collection
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis

from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.permissions import CONSUMER_COMMANDS, INGRESS_COMMANDS, Permissions
from sred_email_core.redis_connection import open_redis
from sred_email_core.redis_fitness import RedisFitness
from sred_email_local.engines import ValkeyServer
from support.least_users import users

SCRIPTS = importlib.resources.files("sred_email_core.queue") / "lua"
BOTH = pytest.mark.parametrize("commands", [INGRESS_COMMANDS, CONSUMER_COMMANDS], ids=["ingress", "consumer"])


@pytest.fixture
async def own_valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    """A Valkey that a test may stop and reconfigure."""
    async with ValkeyServer(tmp_path) as server:
        yield server


@pytest.fixture
async def own_redis(own_valkey: ValkeyServer) -> AsyncIterator[Any]:
    async with open_redis(own_valkey.url, timeout=timedelta(seconds=2)) as client:
        yield client


def fitness_of(redis: Redis, commands: Collection[str] = INGRESS_COMMANDS) -> RedisFitness:
    return RedisFitness(redis, Permissions(redis, QueueKeys(), commands))


async def refused(check: RedisFitness, capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as ended:
        await check.refuse_to_start()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("SRED_EMAIL_REDIS_URL: ")
    return str(line)


@BOTH
async def test_a_redis_that_keeps_what_it_holds_is_fine_and_nothing_is_left_in_it(
    own_redis: Any, capsys: pytest.CaptureFixture[str], commands: frozenset[str]
) -> None:
    check = fitness_of(own_redis, commands)
    await check()
    await check.refuse_to_start()
    assert capsys.readouterr().err == ""
    assert await own_redis.keys("*") == []


@pytest.mark.parametrize("policy", ["allkeys-lru", "allkeys-random", "volatile-lru", "volatile-ttl"])
async def test_hazard_12_a_redis_that_evicts_is_refused_with_the_variable_the_policy_and_the_remedy(
    own_redis: Redis, capsys: pytest.CaptureFixture[str], policy: str
) -> None:
    await own_redis.config_set("maxmemory-policy", policy)
    check = fitness_of(own_redis)
    with pytest.raises(RuntimeError, match=policy):
        await check()
    line = await refused(check, capsys)
    assert policy in line
    assert "noeviction" in line
    await own_redis.config_set("maxmemory-policy", "noeviction")
    await check()


async def test_whether_a_redis_is_fit_that_is_away_or_hangs_is_not_known(
    own_valkey: ValkeyServer, own_redis: Redis
) -> None:
    await own_redis.config_set("maxmemory-policy", "allkeys-lru")
    check = fitness_of(own_redis)
    own_valkey.pause()
    try:
        began = time.monotonic()
        await check()
        assert time.monotonic() - began < 1.9  # before a health check is given up
    finally:
        own_valkey.resume()
    own_valkey.kill()
    await check()
    await check.refuse_to_start()


@BOTH
async def test_each_command_that_a_user_lacks_is_named_at_the_start(
    own_valkey: ValkeyServer, own_redis: Any, capsys: pytest.CaptureFixture[str], commands: frozenset[str]
) -> None:
    allowed = [f"+{command}" for command in commands]
    await own_redis.execute_command("ACL", "SETUSER", "least", "on", ">secret", "~sred:email:*", "-@all", *allowed)
    url = own_valkey.url.replace("redis://", "redis://least:secret@")
    async with open_redis(url, timeout=timedelta(seconds=2)) as limited:
        await fitness_of(limited, commands).refuse_to_start()
        for command in sorted(commands):
            await own_redis.execute_command("ACL", "SETUSER", "least", f"-{command}")
            permissions = Permissions(limited, QueueKeys(), commands)
            assert await permissions.lacking() == [f"+{command}"]
            await own_redis.execute_command("ACL", "SETUSER", "least", f"+{command}")
        await own_redis.execute_command("ACL", "SETUSER", "least", "-info", "-xadd")
        line = await refused(fitness_of(limited, commands), capsys)
        assert "lacks +info +xadd: docs/redis.md says" in line
        await own_redis.execute_command("ACL", "SETUSER", "least", "+info", "+xadd", "resetkeys", "~other:*")
        line = await refused(fitness_of(limited, commands), capsys)
        assert "lacks ~sred:email:*" in line


async def test_a_user_who_may_not_choose_the_database_is_told_so(
    own_valkey: ValkeyServer, own_redis: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    await own_redis.execute_command("ACL", "SETUSER", "least", "on", ">secret", "~*", "+@all", "-select")
    url = own_valkey.url.replace("redis://", "redis://least:secret@").removesuffix("0") + "1"
    async with open_redis(url, timeout=timedelta(seconds=2)) as limited:
        assert "select" in await refused(fitness_of(limited), capsys)


async def test_what_is_lacking_later_makes_the_service_not_ready_until_it_is_granted(
    own_valkey: ValkeyServer, own_redis: Any
) -> None:
    await own_redis.execute_command("ACL", "SETUSER", "least", "on", ">secret", "~*", "+@all", "-xadd")
    url = own_valkey.url.replace("redis://", "redis://least:secret@")
    async with open_redis(url, timeout=timedelta(seconds=2)) as limited:
        check = fitness_of(limited)
        with pytest.raises(RuntimeError, match="xadd"):
            await check()
        await own_redis.execute_command("ACL", "SETUSER", "least", "+xadd")
        await check()


@pytest.mark.parametrize(("service", "commands"), [("ingress", INGRESS_COMMANDS), ("consumer", CONSUMER_COMMANDS)])
async def test_the_documented_users_are_taken_by_redis_and_may_do_what_is_needed_and_no_more(
    own_redis: Any, service: str, commands: frozenset[str]
) -> None:
    name = f"sred-email-{service}"
    rules = users()[name]
    await own_redis.execute_command("ACL", "SETUSER", name, *rules)
    assert {rule.removeprefix("+") for rule in rules if rule.startswith("+")} == commands


def test_what_services_may_run_is_what_their_scripts_run() -> None:
    texts = [file.read_text() for file in SCRIPTS.iterdir()]
    called = {name.lower() for text in texts for name in re.findall(r"redis\.p?call\('([A-Z]+)'", text)}
    named = {name.lower() for text in texts for name in re.findall(r"'([A-Z]{3,})'", text)}
    outside_of_scripts = {"evalsha", "script", "ping", "blpop", "zcount"}
    allowed = {command.partition("|")[0] for command in INGRESS_COMMANDS | CONSUMER_COMMANDS}
    assert called <= allowed
    assert allowed - outside_of_scripts <= named
