"""The names of everything in Redis, the group, and those who join and leave it."""

import importlib.resources
from datetime import timedelta
from pathlib import Path

import pytest
from integration.core.queue_builder import (
    HOUR,
    ME,
    MINUTE,
    OTHER,
    Queue,
    entries_of,
    id_of,
    ids_of,
    queued,
)
from redis.asyncio import Redis

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import GROUP, ORPHANS, Lane, QueueKeys
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer
from support.world import until

# The names


@pytest.mark.parametrize("prefix", ["sred:email", "{sred:email}"])
def test_every_key_stands_under_the_prefix(prefix: str) -> None:
    keys = QueueKeys(prefix)
    names = [name for name in dir(QueueKeys) if isinstance(getattr(QueueKeys, name), property)]
    all_keys = [*(getattr(keys, name) for name in names if name != "streams"), *keys.streams]
    assert len(set(all_keys)) == len(all_keys) >= 12
    assert all(key.startswith(f"{prefix}:") for key in all_keys)


def test_no_script_names_a_key_by_itself() -> None:
    for file in (importlib.resources.files("sred_email_core.queue") / "lua").iterdir():
        assert "sred:" not in file.read_text(), file.name


def test_the_contract_names_these_keys() -> None:
    keys = QueueKeys()
    assert keys.streams == ["sred:email:send:high", "sred:email:send", "sred:email:send:low"]
    assert (keys.retry, keys.dlq, GROUP) == ("sred:email:retry", "sred:email:dlq", "email-consumers")


# Leaving


async def test_leaving_removes_a_consumer_that_holds_nothing(queue: Queue) -> None:
    await queue.finish(await queue.taken(*Lane))
    assert await queue.members(Lane.HIGH) == [ME]
    assert await queue.scripts.leave(ME)
    assert [await queue.members(lane) for lane in Lane] == [[], [], []]
    assert await queue.redis.zrange(queue.keys.consumers, 0, -1) == []


@pytest.mark.parametrize("lane", Lane)
async def test_hazard_10_leaving_keeps_a_consumer_that_holds_an_entry_on_any_stream(queue: Queue, lane: Lane) -> None:
    entries = await queue.taken(*Lane)
    await queue.finish([entry for entry in entries if entry.lane is not lane])
    (held,) = (entry for entry in entries if entry.lane is lane)
    assert not await queue.scripts.leave(ME)
    assert [await queue.members(each) for each in Lane] == [[ME], [ME], [ME]]
    assert await queue.pending(lane) == {held.entry_id: ME}
    assert await queue.redis.zrange(queue.keys.consumers, 0, -1) == [ME.encode()]
    await queue.finish([held])
    assert await queue.scripts.leave(ME)
    assert [await queue.members(each) for each in Lane] == [[], [], []]


async def test_leaving_removes_nobody_else(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL, consumer=OTHER)
    await queue.finish(await queue.taken(Lane.NORMAL))
    assert await queue.scripts.leave(ME)
    assert await queue.members(Lane.NORMAL) == [OTHER]
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: OTHER}


async def test_leaving_a_queue_that_does_not_exist_is_nothing(redis: Redis) -> None:
    assert await Queue(redis, QueueKeys()).scripts.leave(ME)
    assert await redis.keys() == []


async def test_a_consumer_that_gave_no_sign_of_life_for_long_is_told_to_be_dead(queue: Queue) -> None:
    await queue.take(consumer="alive")
    await queue.taken(Lane.LOW, consumer="silent")
    await queue.fall_silent("silent", HOUR)
    assert await queue.scripts.dead_consumers(timedelta(minutes=59)) == {"silent"}
    assert await queue.scripts.dead_consumers(timedelta(minutes=61)) == set()
    await queue.take(consumer="silent")
    assert await queue.scripts.dead_consumers(MINUTE) == set()


async def test_a_name_in_the_group_that_never_gave_a_sign_of_life_is_told_once_it_is_idle(queue: Queue) -> None:
    await queue.finish(await queue.taken(Lane.NORMAL, consumer="forgotten"), consumer="forgotten")
    await queue.taken(Lane.NORMAL, consumer="holding")
    await queue.redis.delete(queue.keys.consumers)
    assert await queue.scripts.dead_consumers(HOUR) == set()
    dead = await until(lambda: queue.scripts.dead_consumers(timedelta(milliseconds=1)), "a consumer to be idle")
    assert dead == {"forgotten"}


async def test_the_name_that_orphans_wait_under_is_never_told_to_be_dead(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.orphan(entry)
    await queue.finish(entries_of(await queue.take()))
    assert await queue.members(Lane.NORMAL) == [ME, ORPHANS]
    await queue.redis.delete(queue.keys.consumers)
    dead = await until(lambda: queue.scripts.dead_consumers(timedelta(milliseconds=1)), "a consumer to be idle")
    assert dead == {ME}


# A group that is gone


async def test_hazard_11_on_an_empty_redis_the_first_take_makes_the_groups(redis: Redis) -> None:
    queue = Queue(redis, QueueKeys())
    (email_id,) = await queue.publish(Lane.NORMAL)
    assert ids_of(entries_of(await queue.take())) == [email_id]
    assert len(await redis.keys("*:send*")) == 3


async def test_hazard_11_a_group_that_is_gone_is_made_again_at_0_so_that_nothing_is_skipped(queue: Queue) -> None:
    taken_before = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    (waiting,) = await queue.publish(Lane.NORMAL)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    again = entries_of(await queue.take())
    assert ids_of(again) == [*ids_of(taken_before), waiting]


async def test_hazard_11_a_batch_is_taken_from_a_group_that_was_made_again(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 5)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    (request,) = (await queue.take(2, batch_size=100)).requests
    assert ids_of(request) == ids


async def test_hazard_11_what_is_taken_from_other_lanes_is_not_lost_when_a_group_is_found_gone(queue: Queue) -> None:
    high, normal = await queue.publish(Lane.HIGH, Lane.NORMAL)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    given = ids_of(entries_of(await queue.take()))
    assert normal in given
    mine = await queue.scripts.own_pending(ME)
    assert high in given or await queue.place(high) in {f"stream:{int(lane)}:{entry}" for lane, entry in mine}


async def test_hazard_11_reclaiming_makes_a_group_that_is_gone(queue: Queue) -> None:
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    assert await queue.scripts.reclaim(ME, Lane.NORMAL, idle=MINUTE, start="", most=10) == ("", 0)
    assert len(await queue.redis.xinfo_groups(queue.keys.stream(Lane.NORMAL))) == 1


async def test_making_the_groups_twice_changes_nothing(queue: Queue) -> None:
    await queue.taken(*Lane)
    before = await queue.snapshot()
    await queue.runner.ensure_groups()
    assert await queue.snapshot() == before


async def test_scripts_that_the_server_has_forgotten_are_sent_again(queue: Queue) -> None:
    await queue.redis.script_flush()
    (entry,) = await queue.taken(Lane.NORMAL)
    assert await queue.finish([entry]) == 1
    assert await queue.place(id_of(entry)) is None


async def test_a_redis_that_does_not_answer_is_for_later(tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)  # never started
    async with open_redis(server.url, timeout=timedelta(seconds=1)) as client:
        away = Queue(client, QueueKeys())
        with pytest.raises(QueueUnavailableError):
            await away.scripts.publish([queued()])
        with pytest.raises(QueueUnavailableError):
            await away.take()
        with pytest.raises(QueueUnavailableError):
            await away.runner.ensure_groups()
