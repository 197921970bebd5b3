"""What stops delivery for every replica, how it is probed, and how it goes on."""

import asyncio
from datetime import timedelta

import pytest
from integration.core.queue_builder import HOUR, ME, OTHER, Queue, entries_of, id_of, new_id, requests_of

from sred_email_core.queue.dispatch_scripts import Stop
from sred_email_core.queue.keys import Lane

SECONDS_15 = timedelta(seconds=15)
DOWN = Stop("PROVIDER_DOWN", "503 down", SECONDS_15)
BAD_KEY = Stop("MISCONFIGURED", "401 bad key", SECONDS_15)


async def fail(queue: Queue, name: str, stop: Stop = DOWN, *, threshold: int = 5, probe: int = 0) -> bool:
    """Tell of a request that failed."""
    return await queue.dispatch.stop_delivery(stop, failed=name, threshold=threshold, first_email_id=name, probe=probe)


async def stop(queue: Queue, cause: str = "cause", stop: Stop = BAD_KEY) -> None:
    """Stop delivery, and let the time of its first probe have come."""
    assert await fail(queue, cause, stop, threshold=1)
    await probe_now(queue)


async def probe_now(queue: Queue) -> None:
    """Let the time of the next probe have come."""
    await queue.redis.hset(queue.keys.dispatch, "probe_at", await queue.now_ms() - 1)


async def probe_due_in(queue: Queue) -> timedelta:
    """Until the next probe."""
    return timedelta(milliseconds=int(await queue.redis.hget(queue.keys.dispatch, "probe_at")) - await queue.now_ms())


# The breaker


async def test_hazard_14_different_sends_that_fail_one_after_the_other_stop_delivery_for_all(queue: Queue) -> None:
    await queue.publish(Lane.HIGH)
    for n in range(4):
        assert not await fail(queue, f"send {n}")
    assert not (await queue.take(0)).held
    assert await fail(queue, "send 4")
    for consumer in (ME, OTHER):
        taken = await queue.take(consumer=consumer)
        assert (taken.held, taken.requests) == (True, [])
        assert (taken.weather.state, taken.weather.reason) == ("PROVIDER_DOWN", "503 down")


async def test_hazard_14_one_send_that_fails_again_and_again_stops_nobody(queue: Queue) -> None:
    for _ in range(20):
        assert not await fail(queue, "the same")


async def test_hazard_14_an_accepted_request_ends_the_row_of_failures(queue: Queue) -> None:
    for n in range(4):
        await fail(queue, f"send {n}")
    await queue.take(accepted=True, consumer=OTHER)
    assert not await fail(queue, "send 4")


async def test_hazard_14_one_probe_at_a_time_goes_out_over_all_replicas(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 50)
    await stop(queue)
    takes = await asyncio.gather(*(queue.take(10, consumer=f"c{n}", batch_size=100) for n in range(8)))
    assert sorted(len(entries_of(taken)) for taken in takes) == [0] * 7 + [1]
    (probe,) = [taken for taken in takes if taken.requests]
    assert probe.probe == 1
    assert not any(taken.probe for taken in takes if taken is not probe)


async def test_a_probe_that_is_accepted_lets_delivery_go_on(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    taken = await queue.take()
    await queue.rings()
    assert await queue.dispatch.end_probe(taken.probe, accepted=True)
    assert await queue.rings()
    after = await queue.take()
    assert (after.weather.state, len(after.requests), after.probe) == ("RUNNING", 2, 0)


async def test_a_probe_that_fails_is_followed_by_one_after_the_interval(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    taken = await queue.take()
    assert await fail(queue, "probe", DOWN, probe=taken.probe)
    assert timedelta(seconds=14) < await probe_due_in(queue) <= SECONDS_15
    told = (await queue.take()).weather
    assert (told.state, told.reason) == ("PROVIDER_DOWN", "503 down")


async def test_a_probe_that_nobody_reported_is_given_up(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    assert (await queue.take(probe_patience=timedelta(seconds=20))).probe
    assert (await queue.take(probe_patience=timedelta(seconds=20))).held
    assert timedelta(seconds=19) < await probe_due_in(queue) <= timedelta(seconds=20)
    await probe_now(queue)
    assert (await queue.take(consumer=OTHER)).probe


async def test_a_probe_that_told_nothing_is_followed_by_another_email_soon(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    first = await queue.take()
    assert not await queue.dispatch.end_probe(first.probe, accepted=False)
    second = await queue.take()
    assert second.probe == first.probe
    assert entries_of(first) != entries_of(second)


async def test_a_probe_that_was_reported_as_failed_is_not_ended_once_more(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    taken = await queue.take()
    await fail(queue, "probe", DOWN, probe=taken.probe)
    await queue.dispatch.end_probe(taken.probe, accepted=False)
    assert (await queue.take()).held


async def test_a_late_probe_of_an_earlier_stop_ends_no_later_one(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    old = await queue.take()
    await queue.dispatch.end_probe(old.probe, accepted=True)
    await stop(queue)
    assert not await queue.dispatch.end_probe(old.probe, accepted=True)
    assert (await queue.take()).weather.state == "MISCONFIGURED"


async def test_requests_that_were_under_way_when_delivery_stopped_change_nothing(queue: Queue) -> None:
    await stop(queue)
    before = await queue.redis.hgetall(queue.keys.dispatch)
    assert await fail(queue, "another", DOWN)
    assert await queue.redis.hgetall(queue.keys.dispatch) == before


@pytest.mark.parametrize("number", [None, "", "0", "5.0", "007", "soon", "-1", "1" * 30])
async def test_a_stop_whose_number_is_none_of_ours_ends_all_the_same(queue: Queue, number: str | None) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await stop(queue)
    await queue.redis.hdel(queue.keys.dispatch, "number")
    if number is not None:
        await queue.redis.hset(queue.keys.dispatch, "number", number)
    taken = await queue.take()
    assert taken.probe
    assert await queue.dispatch.end_probe(taken.probe, accepted=True)
    assert (await queue.take()).weather.state == "RUNNING"


# Which email is the probe


@pytest.mark.parametrize("lane", list(Lane))
async def test_hazard_15_a_probe_is_another_email_than_the_one_before(queue: Queue, lane: Lane) -> None:
    cause, other = await queue.publish(lane, lane)
    await stop(queue, cause)
    assert requests_of(await queue.take()) == [[other]]
    await probe_now(queue)
    assert requests_of(await queue.take()) == [[cause]]


async def test_hazard_15_a_probe_is_of_a_lower_lane_where_the_higher_has_only_the_one_before(queue: Queue) -> None:
    cause, other = await queue.publish(Lane.HIGH, Lane.LOW)
    await stop(queue, cause)
    assert requests_of(await queue.take()) == [[other]]


async def test_the_one_email_there_is_is_probed_with_again(queue: Queue) -> None:
    (cause,) = await queue.publish(Lane.HIGH)
    await stop(queue, cause)
    assert requests_of(await queue.take()) == [[cause]]


async def test_hazard_14_a_repeat_is_the_probe_only_where_there_is_no_new_work(queue: Queue) -> None:
    repeats = sorted(new_id() for _ in range(2))
    for repeat in repeats:
        await queue.park_send(repeat)
    (new,) = await queue.publish(Lane.LOW)
    await stop(queue)
    assert requests_of(await queue.take()) == [[new]]
    for _ in range(2):
        await probe_now(queue)
        taken = await queue.take(claim_idle=timedelta())
        assert len(taken.repeats) == 1
        repeats.remove(taken.repeats[0])
    assert repeats == []


async def test_an_orphan_is_a_probe_too(queue: Queue) -> None:
    (entry,) = await queue.taken(Lane.NORMAL)
    await queue.orphan(entry)
    await stop(queue)
    assert requests_of(await queue.take()) == [[id_of(entry)]]


async def test_a_probe_needs_a_grant_like_any_request(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await queue.take(1, rate=1)
    await stop(queue)
    assert (await queue.take(rate=1)).held


async def test_an_entry_that_is_no_email_can_be_a_probe(queue: Queue) -> None:
    await queue.publish()
    await queue.redis.xadd(queue.keys.stream(Lane.NORMAL), {"nothing": "x"})
    await queue.runner.ensure_groups()
    await stop(queue)
    assert len(entries_of(await queue.take())) == 1


# Quota, refusals in a row


async def test_hazard_17_a_quota_is_probed_when_it_was_said_to_renew(queue: Queue) -> None:
    await queue.publish(*[Lane.NORMAL] * 3)
    await fail(queue, "x", Stop("QUOTA_EXHAUSTED", "429 used up", HOUR), threshold=1)
    assert timedelta(minutes=59) < await probe_due_in(queue) <= HOUR
    await probe_now(queue)
    probe = await queue.take()
    await fail(queue, "y", Stop("QUOTA_EXHAUSTED", "429 used up", 2 * HOUR), threshold=1, probe=probe.probe)
    assert timedelta(minutes=119) < await probe_due_in(queue) <= 2 * HOUR


async def test_refusals_count_where_they_are_of_several_kinds_and_domains_with_one_name(queue: Queue) -> None:
    count = queue.dispatch.count_refusal
    assert await count("validation_error", kind="WELCOME", domain="a.example") == 0
    assert await count("validation_error", kind="WELCOME", domain="b.example") == 0
    assert await count("validation_error", kind="QUOTA_WARNING", domain="a.example") == 3
    assert await count("invalid_parameter", kind="WELCOME", domain="a.example") == 0
    assert await count("validation_error", kind="WELCOME", domain="a.example") == 0
    await queue.take(accepted=True)
    assert await count("validation_error", kind="QUOTA_WARNING", domain="b.example") == 0


# Domains


async def publish_from(queue: Queue, domain: str, *lanes: Lane) -> list[str]:
    """Emails from a sender domain."""
    from sred.email.v1.stream_message_pb2 import EmailContent  # noqa: PLC0415

    return await queue.publish(*lanes, content=EmailContent(from_address=f"App <no-reply@{domain}>", subject="x"))


@pytest.mark.parametrize("batch_size", [1, 100])
async def test_hazard_16_emails_of_a_refused_domain_wait_and_others_go(queue: Queue, batch_size: int) -> None:
    bad = await publish_from(queue, "bad.example", *[Lane.HIGH] * 3)
    good = await publish_from(queue, "good.example", Lane.HIGH, Lane.LOW)
    await queue.dispatch.park_domain("bad.example", "403 not verified", SECONDS_15)
    taken = await queue.take(batch_size=batch_size)
    assert [i for request in requests_of(taken) for i in request] == good
    assert taken.weather.domains == {"bad.example"}
    for email_id in bad:
        due = await queue.due_in(email_id)
        assert due is not None
        assert timedelta(seconds=14) < due <= SECONDS_15
        assert await queue.place(email_id) == "retry:1"


async def test_hazard_16_one_email_of_the_domain_is_tried_when_its_time_has_come(queue: Queue) -> None:
    bad = await publish_from(queue, "bad.example", *[Lane.NORMAL] * 5)
    await queue.dispatch.park_domain("bad.example", "403 not verified", timedelta())
    taken = await queue.take(1, batch_size=100, probe_interval=SECONDS_15)
    assert requests_of(taken) == [bad[:1]]
    assert (await queue.take(batch_size=100, probe_interval=SECONDS_15)).requests == []
    assert (await queue.lengths())[1] == 1  # the one that is tried
    assert await queue.dispatch.free_domains({"bad.example"}) == 1
    for email_id in bad[1:]:
        await queue.redis.zadd(queue.keys.retry, {email_id: 0})
    await queue.scripts.promote(most=100, passing_over=0)
    assert len(entries_of(await queue.take(batch_size=100))) == 4


async def test_what_is_behind_many_emails_of_a_refused_domain_is_reached(queue: Queue) -> None:
    await publish_from(queue, "bad.example", *[Lane.NORMAL] * 300)
    (good,) = await publish_from(queue, "good.example", Lane.NORMAL)
    await queue.dispatch.park_domain("bad.example", "403 not verified", SECONDS_15)
    for _ in range(10):
        taken = await queue.take(1, batch_size=100)
        if taken.requests:
            break
        assert taken.wait is not None
        assert taken.wait <= timedelta(milliseconds=10)
    assert requests_of(taken) == [[good]]


async def test_an_orphan_of_a_refused_domain_waits_too(queue: Queue) -> None:
    await publish_from(queue, "bad.example", Lane.NORMAL)
    (entry,) = entries_of(await queue.take())
    await queue.orphan(entry)
    await queue.dispatch.park_domain("bad.example", "403 not verified", SECONDS_15)
    assert (await queue.take()).requests == []
    assert await queue.place(id_of(entry)) == "retry:2"


async def test_while_delivery_is_stopped_emails_of_a_refused_domain_are_no_probe(queue: Queue) -> None:
    await publish_from(queue, "bad.example", Lane.HIGH)
    (good,) = await publish_from(queue, "good.example", Lane.HIGH)
    await queue.dispatch.park_domain("bad.example", "403 not verified", SECONDS_15)
    await stop(queue)
    assert requests_of(await queue.take()) == [[good]]


# Pauses


async def test_a_paused_lane_waits_and_the_others_go(queue: Queue) -> None:
    _, normal, _ = await queue.publish(*Lane)
    await queue.dispatch.set_pauses(2, {Lane.HIGH: "why", Lane.LOW: ""})
    assert requests_of(await queue.take()) == [[normal]]


async def test_when_all_lanes_are_paused_nothing_goes_not_even_a_probe(queue: Queue) -> None:
    await queue.publish(*Lane)
    await queue.park_send(new_id())
    await stop(queue)
    await queue.dispatch.set_pauses(2, dict.fromkeys(Lane, "why"))
    taken = await queue.take()
    assert (taken.held, taken.repeats, taken.requests) == (True, [], [])
    assert (taken.weather.state, taken.weather.reason) == ("PAUSED", "why")


async def test_without_a_copy_of_the_pauses_nothing_is_taken(queue: Queue) -> None:
    await queue.publish(*Lane)
    await queue.take(0)
    await queue.redis.delete(queue.keys.pauses)
    from sred_email_core.queue.scripts import Wish  # noqa: PLC0415

    taken = await queue.scripts.take(ME, Wish(slots=3, requests_per_second=0, claim_idle=HOUR))
    assert (taken.pauses_missing, taken.requests) == (True, [])


async def test_an_older_copy_of_the_pauses_never_replaces_a_newer_one(queue: Queue) -> None:
    assert await queue.dispatch.set_pauses(3, {Lane.LOW: "new"}) == 0
    assert await queue.dispatch.set_pauses(2, {}) == 3
    assert await queue.dispatch.set_pauses(4, {Lane.HIGH: "newer"}) == 0
    assert set(await queue.redis.hkeys(queue.keys.pauses)) == {b"version", b"1"}


# Shares


async def places_taken(queue: Queue, takes: int, **wish: object) -> dict[Lane, int]:
    """How many emails of each lane go in so many calls, by two consumers in turn."""
    counts = dict.fromkeys(Lane, 0)
    for n in range(takes):
        for entry in entries_of(await queue.take(1, consumer=(ME, OTHER)[n % 2], **wish)):  # type: ignore[arg-type]
            counts[entry.lane] += 1
    return counts


@pytest.mark.parametrize(("batch_size", "takes"), [(1, 200), (20, 20), (100, 4)])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.25, 1.0])
async def test_hazard_19_low_keeps_its_share_over_all_replicas(
    queue: Queue, batch_size: int, takes: int, share: float
) -> None:
    for _ in range(5):
        await queue.publish(*[Lane.HIGH] * 50, *[Lane.NORMAL] * 50, *[Lane.LOW] * 100)
    counts = await places_taken(queue, takes, batch_size=batch_size, low_share=share)
    total = sum(counts.values())
    assert total == batch_size * takes
    assert abs(counts[Lane.LOW] - share * total) <= max(1, 0.01 * total)


async def test_low_takes_all_places_that_nobody_else_wants_and_saves_none_up(queue: Queue) -> None:
    await queue.publish(*[Lane.LOW] * 100)
    assert (await places_taken(queue, 5, batch_size=10))[Lane.LOW] == 50
    await queue.publish(*[Lane.HIGH] * 100)
    assert await places_taken(queue, 5, batch_size=10) == {Lane.HIGH: 45, Lane.NORMAL: 0, Lane.LOW: 5}


async def test_a_high_email_waits_at_most_one_request_however_many_repeats_are_due(queue: Queue) -> None:
    for _ in range(20):
        await queue.park_send(new_id())
    (high,) = await queue.publish(Lane.HIGH)
    first, second = await queue.take(1), await queue.take(1)
    assert [high] in [*requests_of(first), *requests_of(second)]
    assert len(first.repeats) + len(second.repeats) == 1
