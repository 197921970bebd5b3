"""The request limiter of take, and holds: what binds all replicas together."""

import asyncio
from datetime import timedelta

import pytest
from integration.core.queue_builder import HOUR, ME, NOW, OTHER, Queue, entries_of, new_id, requests_of

from sred_email_core.queue.keys import Lane
from sred_email_core.queue.stats import QueueInspector

AHEAD = timedelta(milliseconds=100)
"""By which a grant may be for a moment to come."""
SECONDS_30 = timedelta(seconds=30)


def window_of(rate: float) -> timedelta:
    """How long as many grants last as a second has, with what requests may be late by."""
    return timedelta(seconds=max(1, int(rate)) / rate, milliseconds=20)


async def grant(queue: Queue, *stamps: float) -> None:
    """Let grants have been given at these times, Unix ms."""
    await queue.redis.zadd(queue.keys.grants, {f"g{number}": stamp for number, stamp in enumerate(stamps)})


# The limit


async def test_no_more_is_taken_than_the_limit_grants(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    assert len((await queue.take(rate=4)).requests) == 4
    refused = await queue.take(rate=4)
    assert (refused.held, refused.requests) == (True, [])
    assert refused.wait is not None
    assert NOW < refused.wait <= window_of(4) - AHEAD


async def test_hazard_13_the_limit_binds_all_consumers_together(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 30)
    takes = await asyncio.gather(*(queue.take(2, consumer=f"c{n}", rate=5) for n in range(8)))
    assert sum(len(taken.requests) for taken in takes) == 5


async def test_hazard_13_a_grant_is_for_a_request_however_many_emails_it_carries(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    for _ in range(3):
        assert len(entries_of(await queue.take(rate=3, batch_size=10))) == 10
    assert (await queue.take(rate=3, batch_size=10)).held
    assert await queue.redis.zcard(queue.keys.grants) == 3


async def test_when_fewer_grants_are_left_than_slots_the_emails_that_wait_share_a_request(queue: Queue) -> None:
    ids = await queue.publish(*[Lane.NORMAL] * 5)
    assert requests_of(await queue.take(10, rate=2, batch_size=100)) == [ids]


async def test_repeats_need_grants_like_new_work(queue: Queue) -> None:
    for _ in range(3):
        await queue.park_send(new_id())
    await queue.publish(Lane.NORMAL)
    first = await queue.take(rate=2)
    assert (len(first.repeats), len(first.requests)) == (2, 0)
    assert (await queue.take(rate=2)).held


async def test_hazard_13_grants_that_found_no_work_are_not_spent(queue: Queue) -> None:
    for _ in range(5):
        await queue.take(rate=2)
    await queue.publish(*[Lane.NORMAL] * 3)
    assert len((await queue.take(rate=2)).requests) == 2


async def test_a_grant_comes_back_when_its_window_has_passed(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    now, ms = await queue.now_ms(), round(window_of(4).total_seconds() * 1000)
    await grant(queue, now - 100, now - 100, now - ms - 1, now - ms - 2)
    assert len((await queue.take(rate=4)).requests) == 2


async def test_the_wait_lasts_until_the_oldest_grant_of_the_window_leaves_it(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL)
    ms = round(window_of(0.2).total_seconds() * 1000)
    await grant(queue, await queue.now_ms() - ms + 3000)
    taken = await queue.take(rate=0.2)
    assert taken.held
    assert taken.wait is not None
    assert timedelta(seconds=2.5) < taken.wait <= timedelta(seconds=3)


async def test_after_a_lower_limit_the_old_grants_still_count(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    assert len((await queue.take(rate=10)).requests) == 10
    assert (await queue.take(rate=2)).held
    assert len((await queue.take(rate=15)).requests) == 5


async def test_no_more_grants_are_kept_than_two_windows_have(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    for _ in range(4):
        await queue.redis.delete(queue.keys.grants)
        await grant(queue, *[0] * 50)
        await queue.take(rate=3)
        assert await queue.redis.zcard(queue.keys.grants) <= 6


async def test_without_a_limit_no_grants_are_kept(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 200)
    assert len((await queue.take(200)).requests) == 200
    assert await queue.redis.exists(queue.keys.grants) == 0


async def test_grants_of_the_future_say_nothing_after_the_clock_was_set_back(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    assert len((await queue.take(rate=4)).requests) == 4
    for number, stamp in await queue.redis.zrange(queue.keys.grants, 0, -1, withscores=True):
        await queue.redis.zadd(queue.keys.grants, {number: stamp + 3_600_000})
    assert len((await queue.take(rate=4)).requests) == 4
    assert (await queue.take(rate=4)).held
    assert not await queue.redis.zcount(queue.keys.grants, await queue.now_ms() + 1, "+inf")


@pytest.mark.parametrize("rate", [0.01, 0.5, 0.9, 1, 1.5, 2, 9.99, 10, 333.3])
async def test_a_window_of_grants_never_exceeds_its_rate_and_reaches_97_percent_of_it(
    queue: Queue, rate: float
) -> None:
    await queue.publish(*[Lane.NORMAL] * 400)
    grants = len((await queue.take(400, rate=rate)).requests)
    assert grants == max(1, int(rate))
    window_ms = round(window_of(rate).total_seconds() * 1000)
    await queue.redis.delete(queue.keys.grants)
    await grant(queue, *[await queue.now_ms()] * grants)
    wait = (await queue.take(400, rate=rate)).wait
    assert wait is not None
    assert timedelta(milliseconds=window_ms * 0.5) < wait <= timedelta(milliseconds=window_ms)
    assert grants / (window_ms / 1000) <= rate
    assert grants / (window_ms / 1000) >= 0.97 * rate


async def test_hazard_13_a_grant_counts_from_when_its_request_goes_out(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    taken = await queue.take(rate=2)
    ms = round(window_of(2).total_seconds() * 1000)
    for number, stamp in await queue.redis.zrange(queue.keys.grants, 0, -1, withscores=True):
        await queue.redis.zadd(queue.keys.grants, {number: stamp - ms + 200})
    await queue.dispatch.use_grant(taken.grants[0].number)
    await queue.redis.zadd(queue.keys.grants, {str(taken.grants[1].number): await queue.now_ms() - ms - 1})
    assert len((await queue.take(rate=2)).requests) == 1
    assert (await queue.take(rate=2)).held


async def test_a_request_that_goes_out_after_its_grant_has_left_the_window_counts_again(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    taken = await queue.take(rate=1)
    await queue.redis.delete(queue.keys.grants)
    await queue.dispatch.use_grant(taken.grants[0].number)
    assert (await queue.take(rate=1)).held


async def test_under_a_lasting_load_requests_go_out_evenly(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 10)
    now, ms = await queue.now_ms(), round(window_of(2).total_seconds() * 1000)
    await grant(queue, now - ms - 30, now - ms - 20)  # a burst, a window ago
    taken = await queue.take(rate=2)
    assert len(taken.requests) == 1  # the other one goes half a window later
    refused = await queue.take(rate=2)
    assert refused.wait is not None
    assert timedelta(milliseconds=250) < refused.wait <= timedelta(milliseconds=0.45 * ms) - AHEAD


# What the provider says of its limit


async def test_before_the_limit_of_the_provider_is_known_one_request_goes_ahead(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    first = await queue.take(rate=10, limit_known=False)
    assert (len(first.requests), first.weather.limit_known) == (1, False)
    second = await queue.take(rate=10, limit_known=False, consumer=OTHER)
    assert (second.requests, second.held) == ([], False)
    assert second.wait is not None
    assert second.wait <= timedelta(seconds=2)
    await queue.rings()
    await queue.dispatch.learn_limit(3)
    assert await queue.rings()
    third = await queue.take(rate=10, limit_known=False)
    assert (len(third.requests), third.weather.provider_limit) == (2, 3.0)


async def test_a_request_that_went_ahead_and_was_never_answered_is_followed_by_another(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    assert len((await queue.take(rate=10, limit_known=False)).requests) == 1
    await queue.redis.hincrby(queue.keys.dispatch, "scouted", -2001)
    assert len((await queue.take(rate=10, limit_known=False)).requests) == 1


async def test_a_provider_that_allows_more_than_the_setting_changes_nothing(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 20)
    await queue.dispatch.learn_limit(100)
    assert len((await queue.take(rate=4)).requests) == 4
    assert (await queue.take(rate=4)).held


# Holds


async def test_a_hold_stops_taking_for_everybody_until_it_ends(queue: Queue) -> None:
    (orphan,) = await queue.taken(Lane.LOW)
    await queue.orphan(orphan)
    await queue.publish(Lane.NORMAL)
    repeat = new_id()
    await queue.park_send(repeat)
    await queue.dispatch.hold("429", SECONDS_30)
    for consumer in (ME, OTHER):
        taken = await queue.take(consumer=consumer)
        assert (taken.held, taken.repeats, taken.requests) == (True, [], [])
        assert taken.wait is not None
        assert timedelta(seconds=25) < taken.wait <= SECONDS_30
    await queue.redis.hset(queue.keys.dispatch, "until", await queue.now_ms() - 1)
    taken = await queue.take()
    assert (taken.held, taken.repeats, len(taken.requests)) == (False, [repeat], 2)


async def test_a_longer_hold_replaces_a_shorter_one_and_not_the_other_way_round(queue: Queue) -> None:
    await queue.dispatch.hold("short", timedelta(seconds=1))
    await queue.dispatch.hold("long", HOUR)
    await queue.dispatch.hold("short again", timedelta(seconds=1))
    assert await queue.redis.hget(queue.keys.dispatch, "hold_reason") == b"long"
    until = int(await queue.redis.hget(queue.keys.dispatch, "until") or 0)
    assert 0 <= await queue.now_ms() + 3_600_000 - until < 5000


async def test_a_hold_that_is_over_is_replaced_by_a_shorter_one(queue: Queue) -> None:
    past = {"hold_reason": "old", "until": str(await queue.now_ms() - 1)}
    await queue.redis.hset(queue.keys.dispatch, mapping=past)
    await queue.dispatch.hold("new", timedelta(seconds=1))
    assert await queue.redis.hget(queue.keys.dispatch, "hold_reason") == b"new"


async def set_back(queue: Queue, by: timedelta) -> None:
    """Let a hold have been made when the clock was ahead."""
    for field in ("set", "until"):
        await queue.redis.hincrby(queue.keys.dispatch, field, int(by.total_seconds() * 1000))


async def test_a_hold_lasts_as_long_as_it_was_meant_to_after_the_clock_was_set_back(queue: Queue) -> None:
    await queue.publish(Lane.NORMAL)
    await queue.dispatch.hold("429", SECONDS_30)
    await set_back(queue, HOUR)
    for _ in range(2):
        taken = await queue.take()
        assert taken.held
        assert taken.wait is not None
        assert timedelta(seconds=25) < taken.wait <= SECONDS_30


async def test_a_hold_that_was_made_before_the_clock_was_set_back_gives_way_to_a_longer_one(queue: Queue) -> None:
    await queue.dispatch.hold("short", SECONDS_30)
    await set_back(queue, HOUR)
    await queue.take()
    await queue.dispatch.hold("long", timedelta(minutes=10))
    assert await queue.redis.hget(queue.keys.dispatch, "hold_reason") == b"long"


# Others who use the same limit


async def exceed(queue: Queue) -> None:
    """Let a request be one too many, and its wait be over."""
    await queue.dispatch.hold("429", SECONDS_30)
    await queue.redis.hset(queue.keys.dispatch, "until", await queue.now_ms() - 1)


async def granted_in_a_window(queue: Queue, rate: float) -> int:
    await queue.redis.delete(queue.keys.grants)
    return len((await queue.take(100, rate=rate)).requests)


async def time_passes(queue: Queue, by: timedelta) -> None:
    """As the clock of what is known of others' use sees it."""
    ms = round(by.total_seconds() * 1000)
    for field in ("exceeded", "part_since"):
        if await queue.redis.hexists(queue.keys.dispatch, field):
            await queue.redis.hincrby(queue.keys.dispatch, field, -ms)


async def test_hazard_13_after_a_429_less_than_the_limit_is_asked_for_and_more_again_bit_by_bit(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 200)
    assert await granted_in_a_window(queue, 20) == 20
    await exceed(queue)
    assert await granted_in_a_window(queue, 20) == 14
    await time_passes(queue, timedelta(seconds=6))
    assert await granted_in_a_window(queue, 20) == 16
    await time_passes(queue, timedelta(seconds=13))
    assert await granted_in_a_window(queue, 20) == 20
    assert await queue.redis.hexists(queue.keys.dispatch, "part") is False


async def test_the_limit_comes_back_however_often_it_is_asked_for(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    await exceed(queue)
    assert await granted_in_a_window(queue, 20) == 14
    await time_passes(queue, timedelta(seconds=12))
    for _ in range(50):
        await queue.take(0, rate=20)
    await time_passes(queue, timedelta(seconds=6))
    assert await granted_in_a_window(queue, 20) == 20


async def test_what_is_in_force_is_told(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    await exceed(queue)
    await queue.take(0, rate=20)
    assert (await QueueInspector(queue.redis, queue.keys).read_dispatch()).part_of_limit == pytest.approx(0.7, abs=0.02)
    await time_passes(queue, timedelta(minutes=1))
    assert (await QueueInspector(queue.redis, queue.keys).read_dispatch()).part_of_limit == 1


async def test_requests_that_were_too_many_together_count_once(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    for _ in range(5):
        await exceed(queue)
    assert await granted_in_a_window(queue, 20) == 14
    assert await granted_in_a_window(queue, 20) == 14


async def test_however_many_429s_come_a_tenth_of_the_limit_is_asked_for(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    for _ in range(20):
        await exceed(queue)
        await queue.take(0, rate=20)
    assert await granted_in_a_window(queue, 20) == 2


@pytest.mark.parametrize("field", ["exceeded", "part", "part_since"])
@pytest.mark.parametrize("garbage", ["", "nan", "inf", "-1e9", "1e300", "soon"])
async def test_garbage_about_others_use_leaves_at_least_a_tenth_of_the_limit(
    queue: Queue, field: str, garbage: str
) -> None:
    await queue.publish(*[Lane.NORMAL] * 100)
    await exceed(queue)
    await queue.take(0, rate=20)
    await queue.redis.hset(queue.keys.dispatch, field, garbage)
    assert 2 <= await granted_in_a_window(queue, 20) <= 20
