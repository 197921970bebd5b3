"""Consumers that die with what they took, and entries that kill them."""

import asyncio
from typing import Any

import pytest

from crash.interleavings.stage import LEASE_S, Consumer, Stage
from sred_email_core.queue.keys import GROUP, Lane
from sred_email_core.queue.scripts import Taken
from sred_email_local.sandbox.rules import Action, Rule

MAX_DELIVERIES = 3


def carries(taken: Taken | None, email_id: str) -> bool:
    """Whether an email is among what was taken."""
    if taken is None:
        return False
    entries = [entry for request in taken.requests for entry in request]
    return email_id in taken.repeats or any(e.fields[b"email_id"].decode() == email_id for e in entries)


async def die_of(stage: Stage, email_id: str) -> list[Consumer]:
    """Start one consumer after the other; each dies when it has taken this email. Those that died, stopped for ever."""
    dead: list[Consumer] = []
    for _ in range(2 * MAX_DELIVERIES):
        consumer = stage.consumer(max_deliveries=MAX_DELIVERIES, consumer_slots=2)
        await consumer.parts.reclaimer.run_once()
        for _ in range(20):
            taken = await consumer.parts.consumer.run_once()
            if len(dead) < MAX_DELIVERIES and carries(taken, email_id):
                consumer.process.stop()  # nothing of it has had an effect yet
                dead.append(consumer)
                break
            await consumer.settle()
        await stage.time_passes(LEASE_S + 1)
    return dead


async def resurrect(stage: Stage, dead: list[Consumer]) -> None:
    """Let the dead go on after all: nothing comes of it."""
    requests = len(stage.requests)
    for consumer in dead:
        consumer.process.go_on()
        await consumer.settle()
    assert len(stage.requests) == requests
    await stage.assert_nothing_left()


@pytest.mark.parametrize("neighbours", [0, 7])
async def test_hazard_9_an_entry_that_kills_whoever_reads_it_is_given_up_and_its_neighbours_are_delivered(
    stage: Stage, neighbours: int
) -> None:
    subjects = [f"innocent {n}" for n in range(neighbours)]
    ids = await stage.accept(*subjects[: neighbours // 2])
    poison = await stage.accept_one("poison")
    ids += await stage.accept(*subjects[neighbours // 2 :])
    dead = await die_of(stage, poison)
    row = await stage.row(poison)
    assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", "POISON", False)
    assert stage.deliveries("poison") == 0
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await resurrect(stage, dead)


async def test_hazard_9_an_email_whose_request_kills_is_given_up_as_maybe_accepted(stage: Stage) -> None:
    deadly = await stage.accept_one("deadly")
    held = []
    for _ in range(MAX_DELIVERIES):
        consumer = stage.consumer(max_deliveries=MAX_DELIVERIES)
        held.append((consumer, consumer.process.stop_before("POST *")))
        await consumer.parts.reclaimer.run_once()
        while not held[-1][1].reached.is_set():
            await consumer.begin()
            await stage.redis.ping()
        await stage.time_passes(LEASE_S + 1)
    innocent = await stage.accept_one("innocent")
    last = stage.consumer(max_deliveries=MAX_DELIVERIES)
    await last.take_over()
    await last.take_over()
    row = await stage.row(deadly)
    assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", "OUTCOME_UNKNOWN", True)
    assert stage.requests_about("deadly") == []
    await stage.assert_sent_once(innocent, "innocent")
    await stage.assert_nothing_left()
    for consumer, trap in held:
        trap.go_on()
        await consumer.settle()
    await stage.assert_sent_once(deadly, "deadly")  # those that died were only very slow
    await stage.assert_nothing_left()


@pytest.mark.parametrize("how", ["replayed", "not"])
async def test_hazard_9_poison_is_replayed_by_its_id_only(stage: Stage, how: str) -> None:
    poison = await stage.accept_one("poison")
    dead = await die_of(stage, poison)
    consumer = stage.consumer()
    if how == "not":
        assert (await consumer.replay(include_outcome_unknown=True)).replayed == 0
    else:
        assert (await consumer.replay(ids=[(await stage.row(poison))["letter"]])).replayed == 1
        await consumer.work()
        await stage.assert_sent_once(poison, "poison")
    await resurrect(stage, dead)


@pytest.mark.parametrize("after", [1, 2, 3])
async def test_hazard_9_a_hand_back_and_an_outage_are_no_deaths(stage: Stage, after: int) -> None:
    email_id = await stage.accept_one("kept")
    for _ in range(MAX_DELIVERIES + after):
        consumer = stage.consumer(max_deliveries=MAX_DELIVERIES)
        stage.postgres_engine.away = True
        assert await consumer.begin() == 1
        await consumer.parts.consumer.drain()
        stage.postgres_engine.heal()
    await stage.consumer(max_deliveries=MAX_DELIVERIES).work()
    stage.assert_one_send("kept", requests=1)
    await stage.assert_sent_once(email_id, "kept")
    await stage.assert_nothing_left()


async def test_hazard_10_a_dead_consumer_keeps_its_name_in_the_group_until_nothing_is_pending_for_it(
    stage: Stage,
) -> None:
    dead, other = stage.consumer(), stage.consumer()
    email_id = await stage.accept_one("pending")
    held = dead.process.stop_before("claim_sends.sql")
    await dead.begin()
    await held.until_reached()
    assert not await other.parts.scripts.leave(dead.process.name)
    (pending,) = await stage.redis.xpending_range(stage.keys.stream(Lane.NORMAL), GROUP, "-", "+", 10)
    assert pending["consumer"] == dead.process.name.encode()
    await stage.time_passes(11 * LEASE_S)
    await other.take_over()
    await stage.assert_sent_once(email_id, "pending")
    for stream in stage.keys.streams:
        names = [info["name"] for info in await stage.redis.xinfo_consumers(stream, GROUP)]
        assert dead.process.name.encode() not in names
    held.go_on()
    await dead.settle()
    stage.assert_one_send("pending", requests=1)


@pytest.mark.parametrize("when", ["before the first take", "between two takes", "while it is sent"])
async def test_hazard_11_a_group_that_is_gone_is_made_again_from_the_first_entry(stage: Stage, when: str) -> None:
    consumer = stage.consumer()
    if when != "before the first take":
        await consumer.take()
    first = await stage.accept_one("first")
    held = None
    if when == "while it is sent":
        held = consumer.process.stop_before("POST *")
        await consumer.begin()
        await held.until_reached()
    await stage.redis.flushall()
    second = await stage.accept_one("second")  # onto a stream that has no group
    if held is not None:
        held.go_on()
        await consumer.settle()
    await consumer.work()
    await stage.assert_sent_once(second, "second")
    await stage.reconcile()
    await stage.time_passes(LEASE_S + 1)
    await consumer.work()
    await stage.reconcile()
    await stage.assert_sent_once(first, "first")
    stage.assert_one_send("second", requests=1)
    assert len({r.idempotency_key for r in stage.requests_about("first")}) == 1
    await stage.assert_nothing_left()


async def test_hazard_11_a_group_that_is_gone_holds_up_no_repeat(stage: Stage) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("repeated")
    stage.rules(Rule(action=Action.ACCEPT_THEN_500, times=1))
    await consumer.take()
    await stage.time_passes(30)
    await stage.redis.flushall()
    await stage.reconcile()
    await consumer.work()
    await stage.assert_sent_once(email_id, "repeated")


async def test_hazard_22_what_was_not_begun_goes_back_at_once_and_what_is_being_sent_is_finished(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=2)
    ids = await stage.accept("sent")
    held = consumer.process.stop_before("POST *")
    await consumer.begin()
    await held.until_reached()
    ids += await stage.accept("not begun")
    stage.postgres_engine.away = True
    await consumer.begin()
    stopping = asyncio.create_task(consumer.parts.consumer.drain())
    other = stage.consumer()
    async with asyncio.timeout(5):
        while await consumer_of(stage, ids[1]) != b"orphans":
            await asyncio.sleep(0.01)
    assert not stopping.done()
    stage.postgres_engine.heal()
    await other.work()
    await stage.assert_sent_once(ids[1], "not begun")
    held.go_on()
    await stopping
    for email_id, subject in zip(ids, ("sent", "not begun"), strict=True):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    assert await consumer.parts.scripts.leave(consumer.process.name)
    await stage.assert_nothing_left()


async def consumer_of(stage: Stage, email_id: str) -> bytes | None:
    """Who holds the entry of an email."""
    place: Any = await stage.redis.hget(stage.keys.places, email_id)
    entry = (place or b"").decode().rpartition(":")[2]
    pending: Any = await stage.redis.xpending_range(stage.keys.stream(Lane.NORMAL), GROUP, entry, entry, 1)
    return pending[0]["consumer"] if pending else None


async def test_a_batch_in_flight_at_the_end_of_the_drain_time_is_repeated_by_the_next_consumer(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=1, drain_timeout="0.1", provider_timeout="10")
    subjects = ["slow 1", "slow 2", "slow 3"]
    ids = await stage.accept(*subjects)
    stage.rules(Rule(action=Action.ACCEPT_THEN_HANG, times=1))
    await consumer.begin()
    async with asyncio.timeout(5):
        while not stage.requests:
            await asyncio.sleep(0.01)
    await consumer.parts.consumer.drain()
    other = stage.consumer(consumer_slots=1)
    for _ in range(2):
        await stage.time_passes(LEASE_S + 1)
        await other.take_over()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()
