"""Each Lua script against a real server: what it moves, for whom, and what it leaves alone."""

import asyncio
import importlib.resources
import math
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from sred_email_core.errors import QueueUnavailableError
from sred_email_core.queue.keys import GROUP, Lane, QueueKeys
from sred_email_core.queue.scripts import (
    Entry,
    Finished,
    Parked,
    ParkedInSend,
    QueueScripts,
    Taken,
    grant_window,
)
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import ValkeyServer

ME, OTHER = "me", "other"
NOW = timedelta()
HOUR = timedelta(hours=1)
MINUTE_MS = 60_000


@pytest.fixture(params=["sred:email", "{sred:email}"])
def keys(request: pytest.FixtureRequest) -> QueueKeys:
    """The default prefix, and one with the hash tag that Redis Cluster needs."""
    return QueueKeys(request.param)


class Queue:
    """The scripts, and what they did to Redis."""

    def __init__(self, redis: Redis, keys: QueueKeys, scripts: QueueScripts) -> None:
        self.redis: Any = redis  # its annotations do not know that this client answers in bytes
        self.keys = keys
        self.scripts = scripts

    async def publish(self, *lanes: Lane) -> list[str]:
        """Put one new email on each of these lanes; their ids."""
        ids = [new_id() for _ in lanes]
        emails = [(lane, email_id, message_of(email_id)) for lane, email_id in zip(lanes, ids, strict=True)]
        assert await self.scripts.publish(emails) == len(ids)
        return ids

    async def take(
        self, slots: int = 10, *, consumer: str = ME, rate: float = 0, claim_idle: timedelta = HOUR
    ) -> Taken:
        """Ask for work, without a limit unless one is given."""
        return await self.scripts.take(consumer, slots=slots, requests_per_second=rate, claim_idle=claim_idle)

    async def taken(self, *lanes: Lane, consumer: str = ME) -> list[Entry]:
        """Publish one email on each lane and take them."""
        await self.publish(*lanes)
        return (await self.take(100, consumer=consumer)).entries

    async def steal(self, *entries: Entry) -> None:
        """Let the other consumer claim entries, as a reclaimer would."""
        for entry in entries:
            claimed = await self.redis.xclaim(self.keys.stream(entry.lane), GROUP, OTHER, 0, [entry.entry_id])
            assert len(claimed) == 1

    async def park(self, entries: Sequence[Entry], delay: timedelta, *, consumer: str = ME) -> int:
        """Move the emails of entries to the retry set."""
        return await self.scripts.park(
            consumer, [Parked(entry.lane, entry.entry_id, id_of(entry), delay) for entry in entries]
        )

    async def finish(self, entries: Sequence[Entry], *, consumer: str = ME) -> int:
        """Take the emails of entries off their streams."""
        return await self.scripts.finish(
            consumer, [Finished(entry.lane, entry.entry_id, id_of(entry)) for entry in entries]
        )

    async def now_ms(self) -> int:
        """By the clock that the scripts use."""
        seconds, micros = await self.redis.time()
        return int(seconds) * 1000 + int(micros) // 1000

    async def place(self, email_id: str) -> str | None:
        """Where an email is said to be."""
        place = await self.redis.hget(self.keys.places, email_id)
        return None if place is None else place.decode()

    async def due_in_ms(self, email_id: str) -> float | None:
        """When a member of the retry set is due, from now."""
        score = await self.redis.zscore(self.keys.retry, email_id)
        return None if score is None else score - await self.now_ms()

    async def pending(self, lane: Lane) -> dict[str, str]:
        """Owner of each entry that was taken and not finished."""
        found = await self.redis.xpending_range(self.keys.stream(lane), GROUP, "-", "+", 1000)
        return {entry["message_id"].decode(): entry["consumer"].decode() for entry in found}

    async def snapshot(self) -> dict[bytes, Any]:
        """Everything in Redis, to see that nothing was touched."""
        return {key: await self.redis.dump(key) for key in sorted(await self.redis.keys())}


@pytest.fixture
async def queue(redis: Redis, keys: QueueKeys, scripts: QueueScripts) -> Queue:
    """A queue whose groups exist."""
    await scripts.ensure_groups()
    return Queue(redis, keys, scripts)


def new_id() -> str:
    return str(uuid.uuid4())


def message_of(email_id: str) -> bytes:
    return b"\x00message of \xff" + email_id.encode()


def id_of(entry: Entry) -> str:
    return entry.fields[b"email_id"].decode()


def ids_of(entries: Sequence[Entry]) -> list[str]:
    return [id_of(entry) for entry in entries]


# The names


def test_every_key_stands_under_the_prefix(keys: QueueKeys) -> None:
    names = [name for name in dir(QueueKeys) if isinstance(getattr(QueueKeys, name), property)]
    all_keys = [*(getattr(keys, name) for name in names if name != "streams"), *keys.streams]
    assert len(set(all_keys)) == len(all_keys) >= 9
    assert all(key.startswith(f"{keys.prefix}:") for key in all_keys)


def test_no_script_names_a_key_by_itself() -> None:
    for file in (importlib.resources.files("sred_email_core.queue") / "lua").iterdir():
        assert "sred:" not in file.read_text(), file.name


def test_the_contract_names_these_keys() -> None:
    keys = QueueKeys()
    assert keys.streams == ["sred:email:send:high", "sred:email:send", "sred:email:send:low"]
    assert (keys.retry, keys.dlq, GROUP) == ("sred:email:retry", "sred:email:dlq", "email-consumers")


# publish


async def test_publishing_puts_an_email_on_its_lane_and_says_where_it_is(queue: Queue) -> None:
    for lane in Lane:
        (email_id,) = await queue.publish(lane)
        ((entry_id, fields),) = await queue.redis.xrange(queue.keys.stream(lane))
        assert fields == {b"email_id": email_id.encode(), b"message": message_of(email_id)}
        assert await queue.place(email_id) == f"stream:{int(lane)}:{entry_id.decode()}"


async def test_publishing_twice_adds_an_email_once(queue: Queue) -> None:
    email = (Lane.NORMAL, new_id(), b"m")
    assert await queue.scripts.publish([email]) == 1
    assert await queue.scripts.publish([email]) == 0
    assert await queue.scripts.publish([(Lane.HIGH, *email[1:])]) == 0
    assert [await queue.redis.xlen(stream) for stream in queue.keys.streams] == [0, 1, 0]


async def test_publishing_an_email_twice_in_one_call_adds_it_once(queue: Queue) -> None:
    email = (Lane.LOW, new_id(), b"m")
    assert await queue.scripts.publish([email, email]) == 1


async def test_publishers_that_race_add_each_email_once(queue: Queue) -> None:
    emails = [(Lane.NORMAL, new_id(), b"m") for _ in range(50)]
    published = await asyncio.gather(*(queue.scripts.publish(emails) for _ in range(10)))
    assert sum(published) == 50
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 50


async def test_publishing_more_than_one_call_may_move_keeps_their_order(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.LOW] * 250)
    taken = await queue.take(1000)
    assert ids_of(taken.entries) == ids


async def test_an_email_that_waits_anywhere_is_not_published_again(queue: Queue) -> None:
    in_flight, parked, in_send = await queue.taken(Lane.HIGH, Lane.NORMAL, Lane.LOW)
    await queue.park([parked], HOUR)
    await queue.scripts.park_sends(
        ME, [ParkedInSend(id_of(in_send), id_of(in_send), HOUR, in_send.lane, in_send.entry_id)]
    )
    emails = [(Lane.NORMAL, id_of(entry), b"m") for entry in (in_flight, parked, in_send)]
    assert await queue.scripts.publish(emails) == 0


async def test_publishing_rings_once_and_publishing_nothing_does_not(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 5)
    await queue.publish(Lane.HIGH)
    assert await queue.redis.llen(queue.keys.doorbell) == 1
    await queue.redis.delete(queue.keys.doorbell)
    assert await queue.scripts.publish([]) == 0
    assert await queue.redis.exists(queue.keys.doorbell) == 0


# take


async def test_taking_from_an_empty_queue_gives_nothing_and_knows_of_nothing(queue: Queue) -> None:
    assert await queue.take() == Taken(held=False, wait=None, repeats=[], entries=[])


async def test_repeats_go_first_then_high_then_normal_then_low(queue: Queue) -> None:
    low, normal, high = await queue.publish(Lane.LOW, Lane.NORMAL, Lane.HIGH)
    repeat = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    taken = await queue.take()
    assert taken.repeats == [repeat]
    assert ids_of(taken.entries) == [high, normal, low]
    assert [entry.lane for entry in taken.entries] == [Lane.HIGH, Lane.NORMAL, Lane.LOW]
    assert taken.entries[0].fields[b"message"] == message_of(high)


async def test_within_a_lane_the_oldest_goes_first(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 5)
    assert ids_of((await queue.take(3)).entries) == ids[:3]
    assert ids_of((await queue.take(3)).entries) == ids[3:]


@pytest.mark.parametrize("slots", [1, 2, 3, 4, 7])
async def test_no_more_is_taken_than_there_are_slots(queue: Queue, slots: int) -> None:
    await queue.publish(Lane.HIGH, Lane.NORMAL, Lane.NORMAL, Lane.LOW)
    for _ in range(2):
        repeat = new_id()
        await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    taken = await queue.take(slots)
    assert len(taken.repeats) + len(taken.entries) == min(slots, 6)
    assert len(taken.repeats) == min(slots, 2)


async def test_what_is_taken_is_pending_for_its_taker_and_not_given_to_another(queue: Queue) -> None:
    mine = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    assert (await queue.take(consumer=OTHER)).entries == []
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME for entry in mine}
    assert [await queue.place(id_of(entry)) for entry in mine] == [f"stream:2:{entry.entry_id}" for entry in mine]


async def test_consumers_that_race_take_each_email_once(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 60)
    takes = await asyncio.gather(*(queue.take(7, consumer=f"c{n}") for n in range(10)))
    assert sorted(i for taken in takes for i in ids_of(taken.entries)) == sorted(ids)


async def test_a_repeat_that_is_taken_is_due_again_after_the_claim_idle_time(queue: Queue) -> None:
    repeat = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    assert (await queue.take(claim_idle=timedelta(minutes=1))).repeats == [repeat]
    due = await queue.due_in_ms(repeat)
    assert due is not None
    assert MINUTE_MS - 5000 < due <= MINUTE_MS
    taken = await queue.take(consumer=OTHER)
    assert taken.repeats == []
    assert taken.wait is not None
    assert timedelta(seconds=55) < taken.wait <= timedelta(minutes=1)


async def test_a_repeat_that_nobody_settled_is_given_again(queue: Queue) -> None:
    repeat = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    assert (await queue.take(claim_idle=NOW)).repeats == [repeat]
    assert (await queue.take(consumer=OTHER)).repeats == [repeat]


async def test_parked_emails_and_strangers_in_the_retry_set_are_no_repeats(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], NOW)
    await queue.redis.zadd(queue.keys.retry, {"stranger": 0, b"\xff\xfe": 0})
    taken = await queue.take()
    assert (taken.repeats, taken.entries) == ([], [])


async def test_many_due_parked_emails_do_not_hide_a_due_repeat_for_ever(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 100)
    await queue.park(entries, NOW)
    repeat = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    await queue.scripts.promote(1000)
    assert (await queue.take(100)).repeats == [repeat]


async def test_taking_says_when_the_next_of_the_retry_set_is_due(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], timedelta(seconds=30))
    taken = await queue.take()
    assert not taken.held
    assert taken.wait is not None
    assert timedelta(seconds=25) < taken.wait <= timedelta(seconds=30)


async def test_a_consumer_whose_slots_are_full_wakes_another(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL, Lane.NORMAL)
    await queue.redis.delete(queue.keys.doorbell)
    await queue.take(3)
    assert await queue.redis.exists(queue.keys.doorbell) == 0
    await queue.publish(Lane.NORMAL, Lane.NORMAL)
    await queue.redis.delete(queue.keys.doorbell)
    await queue.take(1)
    assert await queue.redis.llen(queue.keys.doorbell) == 1


# The request limiter of take


async def test_no_more_is_taken_than_the_limit_grants(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    assert len((await queue.take(rate=4)).entries) == 4
    refused = await queue.take(rate=4)
    assert (refused.held, refused.entries) == (True, [])
    assert refused.wait is not None
    assert NOW < refused.wait <= timedelta(milliseconds=grant_window(4)[1])


async def test_the_limit_binds_all_consumers_together(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 30)
    takes = await asyncio.gather(*(queue.take(2, consumer=f"c{n}", rate=5) for n in range(8)))
    assert sum(len(taken.entries) for taken in takes) == 5


async def test_repeats_need_grants_like_new_work(queue: Queue) -> None:
    for _ in range(3):
        repeat = new_id()
        await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    await queue.publish(Lane.HIGH)
    first = await queue.take(rate=2)
    assert (len(first.repeats), len(first.entries)) == (2, 0)
    assert (await queue.take(rate=2)).held


async def test_grants_that_found_no_work_are_not_spent(queue: Queue) -> None:
    for _ in range(5):
        await queue.take(rate=2)
    await queue.publish(*[Lane.NORMAL] * 3)
    assert len((await queue.take(rate=2)).entries) == 2


async def test_a_grant_comes_back_when_its_window_has_passed(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    _, window = grant_window(4)
    now = await queue.now_ms()
    stamps = [now - 100, now - 100, now - window - 1, now - window - 2]
    await queue.redis.rpush(queue.keys.grants, *stamps)
    assert len((await queue.take(rate=4)).entries) == 2


async def test_the_wait_lasts_until_the_oldest_grant_of_the_window_leaves_it(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL)
    _, window = grant_window(2)
    now = await queue.now_ms()
    await queue.redis.rpush(queue.keys.grants, now + 5000, now - window + 3000)
    taken = await queue.take(rate=2)
    assert taken.held
    assert taken.wait is not None
    assert timedelta(seconds=2.5) < taken.wait <= timedelta(seconds=3)


async def test_after_a_lower_limit_the_old_grants_still_count(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    assert len((await queue.take(rate=10)).entries) == 10
    assert (await queue.take(rate=2)).held
    assert len((await queue.take(rate=15)).entries) == 5


async def test_the_list_of_grants_never_grows_beyond_the_limit(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    for _ in range(4):
        await queue.redis.delete(queue.keys.grants)
        await queue.redis.rpush(queue.keys.grants, *[0] * 50)
        await queue.take(rate=3)
        assert await queue.redis.llen(queue.keys.grants) <= 3


async def test_without_a_limit_no_grants_are_kept(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 200)
    assert len((await queue.take(200)).entries) == 200
    assert await queue.redis.exists(queue.keys.grants) == 0


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9, 1, 1.5, 2, 9.99, 10, 333.3])
def test_a_window_of_grants_never_exceeds_its_rate(rate: float) -> None:
    grants, window_ms = grant_window(rate)
    assert grants >= 1
    assert grants / (window_ms / 1000) <= rate
    assert math.isclose(grants / ((window_ms - 10) / 1000), rate, rel_tol=0.02)


# hold


async def test_a_hold_stops_taking_for_everybody_until_it_ends(queue: Queue) -> None:
    await queue.publish(Lane.HIGH)
    repeat = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(repeat, repeat, NOW)])
    await queue.scripts.hold("MISCONFIGURED", "bad key", timedelta(seconds=30))
    for consumer in (ME, OTHER):
        taken = await queue.take(consumer=consumer)
        assert (taken.held, taken.repeats, taken.entries) == (True, [], [])
        assert taken.wait is not None
        assert timedelta(seconds=25) < taken.wait <= timedelta(seconds=30)
    await queue.redis.hset(queue.keys.dispatch, "until", await queue.now_ms() - 1)
    taken = await queue.take()
    assert (taken.held, taken.repeats, len(taken.entries)) == (False, [repeat], 1)


async def test_a_longer_hold_replaces_a_shorter_one_and_not_the_other_way_round(queue: Queue) -> None:
    await queue.scripts.hold("RUNNING", "limited", timedelta(seconds=1))
    await queue.scripts.hold("QUOTA_EXHAUSTED", "used up", HOUR)
    await queue.scripts.hold("RUNNING", "limited again", timedelta(seconds=1))
    assert await queue.redis.hget(queue.keys.dispatch, "state") == b"QUOTA_EXHAUSTED"
    assert await queue.redis.hget(queue.keys.dispatch, "reason") == b"used up"
    until = int(await queue.redis.hget(queue.keys.dispatch, "until") or 0)
    assert 0 <= await queue.now_ms() + 3_600_000 - until < 5000


async def test_a_hold_that_is_over_is_replaced_by_a_shorter_one(queue: Queue) -> None:
    past = {"state": "MISCONFIGURED", "reason": "old", "until": str(await queue.now_ms() - 1)}
    await queue.redis.hset(queue.keys.dispatch, mapping=past)
    await queue.scripts.hold("RUNNING", "new", timedelta(seconds=1))
    assert await queue.redis.hget(queue.keys.dispatch, "reason") == b"new"


# finish


async def test_finishing_leaves_nothing_of_an_email(queue: Queue) -> None:
    entries = await queue.taken(*Lane)
    assert await queue.finish(entries) == 3
    assert [await queue.redis.xlen(stream) for stream in queue.keys.streams] == [0, 0, 0]
    assert [await queue.pending(lane) for lane in Lane] == [{}, {}, {}]
    assert await queue.redis.hlen(queue.keys.places) == 0


async def test_finishing_twice_is_the_same_as_once(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL)
    assert await queue.finish(entries) == 1
    assert await queue.finish(entries) == 0


async def test_only_the_owner_of_a_pending_entry_may_finish_it(queue: Queue) -> None:
    mine, stolen = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.steal(stolen)
    assert await queue.finish([mine, stolen]) == 1
    assert await queue.pending(Lane.NORMAL) == {stolen.entry_id: OTHER}
    assert await queue.place(id_of(stolen)) == f"stream:2:{stolen.entry_id}"
    before = await queue.snapshot()
    assert await queue.finish([stolen]) == 0
    assert await queue.snapshot() == before
    assert await queue.finish([stolen], consumer=OTHER) == 1


async def test_an_entry_that_was_never_taken_can_not_be_finished(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL)
    ((entry_id, fields),) = await queue.redis.xrange(queue.keys.stream(Lane.NORMAL))
    assert await queue.finish([Entry(Lane.NORMAL, entry_id.decode(), fields)]) == 0
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 1


async def test_finishing_an_entry_leaves_a_place_that_is_elsewhere(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.redis.hset(queue.keys.places, id_of(entry), "send:first")
    assert await queue.finish([entry]) == 1
    assert await queue.place(id_of(entry)) == "send:first"


async def test_finishing_when_the_group_is_gone_touches_nothing(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    assert await queue.finish(entries) == 0
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 1


# park and promote


async def test_parking_moves_an_email_from_its_stream_to_the_retry_set(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.LOW)
    email_id = id_of(entry)
    assert await queue.park([entry], timedelta(seconds=30)) == 1
    assert await queue.redis.xlen(queue.keys.stream(Lane.LOW)) == 0
    assert await queue.pending(Lane.LOW) == {}
    assert await queue.place(email_id) == "retry:3"
    assert await queue.redis.hget(queue.keys.parked, email_id) == message_of(email_id)
    due = await queue.due_in_ms(email_id)
    assert due is not None
    assert 25_000 < due <= 30_000


async def test_only_the_owner_of_a_pending_entry_may_park_it(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.steal(entry)
    before = await queue.snapshot()
    assert await queue.park([entry], NOW) == 0
    assert await queue.snapshot() == before
    assert await queue.park([entry], NOW, consumer=OTHER) == 1


async def test_parking_twice_is_the_same_as_once(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    assert await queue.park([entry], HOUR) == 1
    before = await queue.snapshot()
    assert await queue.park([entry], NOW) == 0
    assert await queue.snapshot() == before


@pytest.mark.parametrize("lane", Lane)
async def test_a_parked_email_comes_back_to_its_lane_with_its_message(queue: Queue, lane: Lane) -> None:
    (entry,) = await queue.taken(lane)
    email_id = id_of(entry)
    await queue.park([entry], NOW)
    promoted = await queue.scripts.promote(10)
    assert (promoted.moved, promoted.examined, promoted.next_due) == (1, 1, None)
    (again,) = (await queue.take()).entries
    assert (again.lane, again.fields) == (lane, entry.fields)
    assert again.entry_id != entry.entry_id
    assert await queue.place(email_id) == f"stream:{int(lane)}:{again.entry_id}"
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.redis.hlen(queue.keys.parked) == 0


async def test_a_parked_email_keeps_its_lane_and_message_over_many_rounds(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.HIGH)
    for _ in range(5):
        await queue.park([entry], NOW)
        await queue.scripts.promote(10)
        (entry,) = (await queue.take()).entries
    assert entry.lane is Lane.HIGH
    assert entry.fields[b"message"] == message_of(id_of(entry))


async def test_what_is_not_due_stays_parked_and_the_wait_for_it_is_told(queue: Queue) -> None:
    entries = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.park(entries[:1], timedelta(seconds=30))
    await queue.park(entries[1:], HOUR)
    promoted = await queue.scripts.promote(10)
    assert (promoted.moved, promoted.examined) == (0, 0)
    assert promoted.next_due is not None
    assert timedelta(seconds=25) < promoted.next_due <= timedelta(seconds=30)


async def test_promoting_moves_a_bounded_number_the_longest_due_first(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 5)
    await queue.park(entries, NOW)
    for age, entry in enumerate(entries):
        await queue.redis.zadd(queue.keys.retry, {id_of(entry): 1000 - age})
    assert (await queue.scripts.promote(3)).moved == 3
    assert (await queue.scripts.promote(3)).moved == 2
    assert (await queue.scripts.promote(3)).moved == 0
    assert ids_of((await queue.take()).entries) == ids_of(entries)[::-1]


async def test_replicas_that_promote_at_once_move_each_email_once(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 50)
    await queue.park(entries, NOW)
    promoted = await asyncio.gather(*(queue.scripts.promote(20) for _ in range(10)))
    assert sum(p.moved for p in promoted) == 50
    assert sorted(ids_of((await queue.take(100)).entries)) == sorted(ids_of(entries))


async def test_promoting_rings_and_promoting_nothing_does_not(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], NOW)
    await queue.redis.delete(queue.keys.doorbell)
    await queue.scripts.promote(10)
    assert await queue.redis.llen(queue.keys.doorbell) == 1
    await queue.redis.delete(queue.keys.doorbell)
    await queue.scripts.promote(10)
    assert await queue.redis.exists(queue.keys.doorbell) == 0


async def test_promoting_leaves_sends_where_they_are(queue: Queue) -> None:
    first, second = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    placed = [ParkedInSend(id_of(first), id_of(e), NOW, e.lane, e.entry_id) for e in (first, second)]
    await queue.scripts.park_sends(ME, placed)
    before = await queue.snapshot()
    assert (await queue.scripts.promote(10)).moved == 0
    assert await queue.snapshot() == before


async def test_promoting_removes_members_that_are_no_emails_of_ours(queue: Queue) -> None:
    (parked,) = await queue.taken(Lane.NORMAL)
    await queue.park([parked], NOW)
    (on_stream,) = await queue.publish(Lane.HIGH)
    without_message = new_id()
    await queue.redis.hset(queue.keys.places, without_message, "retry:1")
    await queue.redis.hset(queue.keys.places, "odd", "retry:9")
    garbage: dict[str | bytes, float] = {
        "stranger": 0,
        b"\xff\xfe": 0,
        "": 0,
        "odd": 0,
        on_stream: 0,
        without_message: 0,
    }
    await queue.redis.zadd(queue.keys.retry, garbage)
    await queue.redis.hset(queue.keys.parked, "stranger", b"m")
    assert (await queue.scripts.promote(100)).moved == 1
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.redis.hlen(queue.keys.parked) == 0
    assert await queue.place(without_message) is None
    place = await queue.place(on_stream)
    assert place is not None
    assert place.startswith("stream:1:")
    assert ids_of((await queue.take()).entries) == [on_stream, id_of(parked)]


async def test_an_email_whose_message_was_lost_is_free_to_be_published_again(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.park([entry], NOW)
    await queue.redis.delete(queue.keys.parked)
    await queue.scripts.promote(10)
    assert await queue.scripts.publish([(Lane.NORMAL, id_of(entry), b"m")]) == 1


async def test_an_entry_without_a_message_is_taken_off_its_stream_and_its_email_is_free(queue: Queue) -> None:
    email_id = new_id()
    entry_id = (await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), {"email_id": email_id})).decode()
    await queue.redis.hset(queue.keys.places, email_id, f"stream:2:{entry_id}")
    (entry,) = (await queue.take()).entries
    assert await queue.park([entry], NOW) == 1
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 0
    assert await queue.redis.zcard(queue.keys.retry) == 0
    assert await queue.place(email_id) is None


# reclaim


async def reclaim(queue: Queue, *, idle: timedelta = NOW, cursor: str = "0-0", most: int = 100) -> tuple[str, int]:
    return await queue.scripts.reclaim(OTHER, Lane.NORMAL, idle=idle, cursor=cursor, most=most)


async def test_what_its_consumer_did_not_finish_goes_back_to_its_stream(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.redis.delete(queue.keys.doorbell)
    assert await reclaim(queue) == ("0-0", 1)
    assert await queue.pending(Lane.NORMAL) == {}
    assert await queue.redis.llen(queue.keys.doorbell) == 1
    (again,) = (await queue.take(consumer=OTHER)).entries
    assert again.fields == entry.fields
    assert again.entry_id != entry.entry_id
    assert await queue.place(id_of(entry)) == f"stream:2:{again.entry_id}"
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 1


async def test_what_is_reclaimed_is_its_first_consumers_no_longer(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await reclaim(queue)
    before = await queue.snapshot()
    assert await queue.finish([entry]) == 0
    assert await queue.park([entry], NOW) == 0
    assert await queue.snapshot() == before


async def test_what_was_taken_a_moment_ago_is_left_to_its_consumer(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.publish(Lane.NORMAL)
    before = await queue.snapshot()
    assert await reclaim(queue, idle=HOUR) == ("0-0", 0)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME}
    assert await queue.redis.dump(queue.keys.places) == before[queue.keys.places.encode()]


async def test_one_call_looks_at_a_bounded_number_and_the_next_goes_on(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 25)
    cursor, moved, calls = "0-0", 0, 0
    while calls == 0 or cursor != "0-0":
        cursor, in_this_call = await reclaim(queue, cursor=cursor, most=10)
        moved += in_this_call
        calls += 1
        assert in_this_call <= 10
    assert (moved, calls) == (25, 3)
    assert ids_of((await queue.take(100)).entries) == ids_of(entries)


async def test_a_place_that_is_elsewhere_stays_when_an_entry_is_reclaimed(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.redis.hset(queue.keys.places, id_of(entry), "send:first")
    assert await reclaim(queue) == ("0-0", 1)
    assert await queue.place(id_of(entry)) == "send:first"


async def test_replicas_that_reclaim_at_once_lose_and_double_nothing(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 30)
    await asyncio.gather(*(reclaim(queue, most=7) for _ in range(10)))
    await reclaim(queue)
    assert sorted(ids_of((await queue.take(100)).entries)) == sorted(ids_of(entries))


async def test_an_entry_that_was_deleted_under_its_consumer_is_no_obstacle(queue: Queue) -> None:
    gone, there = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    await queue.redis.xdel(queue.keys.stream(Lane.NORMAL), gone.entry_id)
    assert await reclaim(queue) == ("0-0", 1)
    assert ids_of((await queue.take()).entries) == [id_of(there)]
    assert await queue.pending(Lane.NORMAL) != {}


async def test_an_entry_with_very_many_fields_is_not_lost_when_it_is_reclaimed(queue: Queue) -> None:
    fields = {f"f{n}".encode(): b"x" for n in range(5000)}
    await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), fields)
    await queue.take()
    try:
        await reclaim(queue)
    finally:
        assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 1
    ((_, kept),) = await queue.redis.xrange(queue.keys.stream(Lane.NORMAL))
    assert kept == fields


# park_sends and finish_sends


async def test_a_send_waits_as_one_member_and_its_emails_have_their_place_in_it(queue: Queue) -> None:
    entries = await queue.taken(Lane.HIGH, Lane.NORMAL, Lane.LOW)
    first = id_of(entries[0])
    placed = [ParkedInSend(first, id_of(e), timedelta(seconds=30), e.lane, e.entry_id) for e in entries]
    await queue.scripts.park_sends(ME, placed)
    assert await queue.redis.zrange(queue.keys.retry, 0, -1) == [first.encode()]
    due = await queue.due_in_ms(first)
    assert due is not None
    assert 25_000 < due <= 30_000
    assert [await queue.place(id_of(entry)) for entry in entries] == [f"send:{first}"] * 3
    assert [await queue.redis.xlen(stream) for stream in queue.keys.streams] == [0, 0, 0]
    assert [await queue.pending(lane) for lane in Lane] == [{}, {}, {}]
    assert await queue.redis.hlen(queue.keys.parked) == 0


async def test_a_send_larger_than_one_call_may_move_still_waits_as_one(queue: Queue) -> None:
    entries = await queue.taken(*[Lane.NORMAL] * 100)
    others = [new_id() for _ in range(50)]
    first = id_of(entries[0])
    placed = [ParkedInSend(first, id_of(e), NOW, e.lane, e.entry_id) for e in entries]
    await queue.scripts.park_sends(ME, placed + [ParkedInSend(first, other, NOW) for other in others])
    assert (await queue.take(100)).repeats == [first]
    assert await queue.redis.hlen(queue.keys.places) == 150


async def test_parking_a_send_again_moves_its_due_time(queue: Queue) -> None:
    first = new_id()
    await queue.scripts.park_sends(ME, [ParkedInSend(first, first, NOW)])
    await queue.scripts.park_sends(ME, [ParkedInSend(first, first, HOUR)])
    assert (await queue.take()).repeats == []
    assert await queue.redis.zcard(queue.keys.retry) == 1


async def test_an_entry_that_another_has_claimed_is_left_to_it_when_its_send_is_parked(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    email_id = id_of(entry)
    await queue.steal(entry)
    await queue.scripts.park_sends(ME, [ParkedInSend(email_id, email_id, HOUR, entry.lane, entry.entry_id)])
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: OTHER}
    assert await queue.place(email_id) == f"send:{email_id}"
    assert await queue.finish([entry], consumer=OTHER) == 1
    assert await queue.place(email_id) == f"send:{email_id}"


async def test_a_parked_send_rings(queue: Queue) -> None:
    await queue.scripts.park_sends(ME, [ParkedInSend("a", "a", NOW)])
    assert await queue.redis.llen(queue.keys.doorbell) == 1


async def test_a_finished_send_leaves_nothing_behind(queue: Queue) -> None:
    await queue.scripts.park_sends(ME, [ParkedInSend("a", email_id, NOW) for email_id in ("a", "b")])
    await queue.scripts.finish_sends([("a", "a"), ("b", "a")])
    assert await queue.redis.exists(queue.keys.retry, queue.keys.places) == 0


async def test_forgetting_a_send_leaves_emails_that_are_elsewhere(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    email_id = id_of(entry)
    await queue.scripts.park_sends(ME, [ParkedInSend("a", "a", HOUR)])
    await queue.park([entry], HOUR)
    before = await queue.snapshot()
    await queue.scripts.finish_sends([(email_id, email_id), ("a", "b"), ("unknown", "unknown")])
    assert await queue.snapshot() == before


# bury and unbury


async def test_burying_shows_a_letter_once_and_takes_its_email_off_the_stream(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    fields = {b"email_id": id_of(entry).encode(), b"message": b"\x00\xff", b"reason": b"REJECTED"}
    for _ in range(3):
        await queue.scripts.bury(
            ME,
            dead_letter_id="letter",
            fields=fields,
            email_id=id_of(entry),
            source=(entry.lane, entry.entry_id),
        )
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == fields
    assert await queue.redis.xlen(queue.keys.stream(Lane.NORMAL)) == 0
    assert await queue.pending(Lane.NORMAL) == {}
    assert await queue.place(id_of(entry)) is None


async def test_an_entry_that_another_has_claimed_is_left_to_it_when_its_letter_is_shown(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.steal(entry)
    source = (entry.lane, entry.entry_id)
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=source)
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: OTHER}
    assert await queue.place(id_of(entry)) == f"stream:2:{entry.entry_id}"
    assert await queue.redis.xlen(queue.keys.dlq) == 1
    await queue.scripts.bury(OTHER, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=source)
    assert await queue.pending(Lane.NORMAL) == {}
    assert await queue.redis.xlen(queue.keys.dlq) == 1


async def test_a_letter_without_an_entry_can_be_shown(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.HIGH)
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=new_id())
    assert await queue.redis.xlen(queue.keys.dlq) == 1
    assert await queue.pending(Lane.HIGH) == {entry.entry_id: ME}


async def test_a_letter_of_an_entry_that_is_no_email_takes_the_entry_off_the_stream(queue: Queue) -> None:
    entry_id = (await queue.redis.xadd(queue.keys.stream(Lane.LOW), {b"\xff": b"\x00"})).decode()
    (entry,) = (await queue.take()).entries
    await queue.scripts.bury(ME, dead_letter_id="l", fields={b"raw:\xff": b"\x00"}, source=(Lane.LOW, entry_id))
    assert entry.fields == {b"\xff": b"\x00"}
    assert await queue.redis.xlen(queue.keys.stream(Lane.LOW)) == 0
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == {b"raw:\xff": b"\x00"}


@pytest.mark.parametrize("count", [100, 1000])
async def test_a_letter_with_very_many_fields_is_shown_like_any_other(queue: Queue, count: int) -> None:
    fields = {f"raw:{n}".encode(): b"x" for n in range(count)}
    await queue.scripts.bury(ME, dead_letter_id="l", fields=fields)
    ((_, shown),) = await queue.redis.xrange(queue.keys.dlq)
    assert shown == fields


async def test_taking_a_letter_out_of_the_dlq_leaves_the_others(queue: Queue) -> None:
    for letter in ("a", "b", "c"):
        await queue.scripts.bury(ME, dead_letter_id=letter, fields={b"dead_letter_id": letter.encode()})
    await queue.scripts.unbury(["a", "c", "unknown"])
    await queue.scripts.unbury(["a"])
    assert [fields for _, fields in await queue.redis.xrange(queue.keys.dlq)] == [{b"dead_letter_id": b"b"}]
    assert await queue.redis.hkeys(queue.keys.letters) == [b"b"]


async def test_a_letter_that_was_taken_out_can_be_shown_again(queue: Queue) -> None:
    for _ in range(2):
        await queue.scripts.bury(ME, dead_letter_id="a", fields={b"a": b"b"})
        assert await queue.redis.xlen(queue.keys.dlq) == 1
        await queue.scripts.unbury(["a"])
        assert await queue.redis.xlen(queue.keys.dlq) == 0


# leave, and groups that are gone


async def consumers(queue: Queue, lane: Lane) -> list[str]:
    found = await queue.redis.xinfo_consumers(queue.keys.stream(lane), GROUP)
    return sorted(member["name"].decode() for member in found)


async def test_leaving_removes_a_consumer_that_holds_nothing(queue: Queue) -> None:
    await queue.finish(await queue.taken(*Lane))
    assert await consumers(queue, Lane.HIGH) == [ME]
    await queue.scripts.leave(ME)
    assert [await consumers(queue, lane) for lane in Lane] == [[], [], []]


async def test_leaving_keeps_a_consumer_where_it_holds_entries(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.take(consumer=OTHER)
    await queue.scripts.leave(ME)
    assert [await consumers(queue, lane) for lane in Lane] == [[OTHER], [ME, OTHER], [OTHER]]
    assert await queue.pending(Lane.NORMAL) == {entry.entry_id: ME}
    await queue.finish([entry])
    await queue.scripts.leave(ME)
    assert await consumers(queue, Lane.NORMAL) == [OTHER]


async def test_leaving_a_queue_that_does_not_exist_is_nothing(redis: Redis, scripts: QueueScripts) -> None:
    await scripts.leave(ME)
    assert await redis.keys() == []


async def test_on_an_empty_redis_the_first_take_makes_the_groups(redis: Redis, scripts: QueueScripts) -> None:
    email_id = new_id()
    await scripts.publish([(Lane.NORMAL, email_id, b"m")])
    taken = await scripts.take(ME, slots=5, requests_per_second=0, claim_idle=HOUR)
    assert ids_of(taken.entries) == [email_id]
    assert len(await redis.keys("*:send*")) == 3


async def test_a_group_that_is_gone_is_made_again_at_the_start_so_that_nothing_is_skipped(queue: Queue) -> None:
    taken_before = await queue.taken(Lane.NORMAL, Lane.NORMAL)
    (waiting,) = await queue.publish(Lane.NORMAL)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    again = (await queue.take()).entries
    assert ids_of(again) == [*ids_of(taken_before), waiting]


async def test_what_was_read_before_a_group_was_found_gone_is_given_or_stays_pending(queue: Queue) -> None:
    high, normal = await queue.publish(Lane.HIGH, Lane.NORMAL)
    high_place = await queue.place(high)
    await queue.redis.xgroup_destroy(queue.keys.stream(Lane.NORMAL), GROUP)
    assert normal in ids_of((await queue.take()).entries)
    assert [f"stream:1:{entry_id}" for entry_id in await queue.pending(Lane.HIGH)] == [high_place]


async def test_making_the_groups_twice_changes_nothing(queue: Queue) -> None:
    await queue.taken(*Lane)
    before = await queue.snapshot()
    await queue.scripts.ensure_groups()
    assert await queue.snapshot() == before


async def test_scripts_that_the_server_has_forgotten_are_sent_again(queue: Queue) -> None:
    await queue.redis.script_flush()
    await queue.finish(await queue.taken(Lane.NORMAL))


async def test_a_redis_that_does_not_answer_is_for_later(keys: QueueKeys, tmp_path: Path) -> None:
    server = ValkeyServer(tmp_path)  # never started
    async with open_redis(server.url, timeout=timedelta(seconds=1)) as client:
        away = QueueScripts(client, keys)
        with pytest.raises(QueueUnavailableError):
            await away.publish([(Lane.HIGH, "a", b"m")])
        with pytest.raises(QueueUnavailableError):
            await away.ensure_groups()


# A full Redis


class FullRedis:
    """A queue with emails in every state, in a Redis that takes nothing more."""

    def __init__(self, queue: Queue, in_flight: list[Entry], waiting: list[str], parked: str) -> None:
        self.queue = queue
        self.in_flight = in_flight
        self.waiting = waiting
        self.parked = parked


@pytest.fixture(scope="module")
def small_valkey(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ValkeyServer]:
    """A server that evicts nothing."""
    server = ValkeyServer(tmp_path_factory.mktemp("small-valkey"), extra_args=["--maxmemory-policy", "noeviction"])
    asyncio.run(server.start())
    yield server
    asyncio.run(server.stop())


@pytest.fixture
async def full(small_valkey: ValkeyServer, keys: QueueKeys) -> AsyncIterator[FullRedis]:
    """Fill the queue, then let the memory be too small for what is there."""
    async with open_redis(small_valkey.url, timeout=timedelta(seconds=5)) as client:
        await client.config_set("maxmemory", 0)
        await client.flushall()
        scripts = QueueScripts(client, keys)
        await scripts.ensure_groups()
        queue = Queue(client, keys, scripts)
        *in_flight, parked = await queue.taken(Lane.HIGH, Lane.NORMAL, Lane.LOW, Lane.NORMAL)
        await queue.park([parked], NOW)
        waiting = await queue.publish(Lane.NORMAL, Lane.NORMAL)
        await client.config_set("maxmemory", 1)
        with pytest.raises(OutOfMemoryError):
            await client.set("more", "x")
        yield FullRedis(queue, in_flight, waiting, id_of(parked))


async def test_a_full_redis_takes_no_new_email(full: FullRedis) -> None:
    with pytest.raises(QueueUnavailableError):
        await full.queue.scripts.publish([(Lane.HIGH, new_id(), b"m")])


async def test_in_a_full_redis_emails_are_finished(full: FullRedis) -> None:
    assert await full.queue.finish(full.in_flight) == 3


async def test_in_a_full_redis_emails_are_parked(full: FullRedis) -> None:
    assert await full.queue.park(full.in_flight, HOUR) == 3
    assert await full.queue.redis.zcard(full.queue.keys.retry) == 4


async def test_in_a_full_redis_unfinished_entries_go_back_to_their_streams(full: FullRedis) -> None:
    _, moved = await full.queue.scripts.reclaim(OTHER, Lane.NORMAL, idle=NOW, cursor="0-0", most=10)
    assert moved == 2
    assert await full.queue.redis.xlen(full.queue.keys.stream(Lane.NORMAL)) == 4


async def test_in_a_full_redis_parked_emails_go_back_to_their_streams(full: FullRedis) -> None:
    assert (await full.queue.scripts.promote(10)).moved == 1
    place = await full.queue.place(full.parked)
    assert place is not None
    assert place.startswith("stream:3:")


async def test_in_a_full_redis_sends_are_parked_and_finished(full: FullRedis) -> None:
    entry = full.in_flight[0]
    email_id = id_of(entry)
    await full.queue.scripts.park_sends(ME, [ParkedInSend(email_id, email_id, HOUR, entry.lane, entry.entry_id)])
    assert await full.queue.place(email_id) == f"send:{email_id}"
    await full.queue.scripts.finish_sends([(email_id, email_id)])
    assert await full.queue.place(email_id) is None


async def test_in_a_full_redis_letters_are_shown_and_taken_out(full: FullRedis) -> None:
    entry = full.in_flight[0]
    await full.queue.scripts.bury(
        ME, dead_letter_id="l", fields={b"a": b"b"}, email_id=id_of(entry), source=(entry.lane, entry.entry_id)
    )
    assert await full.queue.redis.xlen(full.queue.keys.dlq) == 1
    await full.queue.scripts.unbury(["l"])
    assert await full.queue.redis.xlen(full.queue.keys.dlq) == 0


async def test_in_a_full_redis_delivery_is_held_and_consumers_leave(full: FullRedis) -> None:
    await full.queue.scripts.hold("RUNNING", "limited", HOUR)
    assert (await full.queue.take()).held
    await full.queue.scripts.leave(OTHER)


@pytest.mark.parametrize("rate", [0, 1000])
async def test_in_a_full_redis_new_work_is_taken_so_that_it_drains(full: FullRedis, rate: float) -> None:
    assert ids_of((await full.queue.take(rate=rate)).entries) == full.waiting


@pytest.mark.parametrize("rate", [0, 1000])
async def test_in_a_full_redis_repeats_are_taken_so_that_it_drains(full: FullRedis, rate: float) -> None:
    entry = full.in_flight[0]
    email_id = id_of(entry)
    await full.queue.scripts.park_sends(ME, [ParkedInSend(email_id, email_id, NOW, entry.lane, entry.entry_id)])
    taken = await full.queue.take(rate=rate)
    assert taken.repeats == [email_id]
    assert ids_of(taken.entries) == full.waiting
