"""A step is carried out, and the connection is gone before the answer: each email is still delivered once, and ends."""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace

import pytest

from crash.interleavings.stage import LEASE_S, Consumer, Stage
from sred_email_core.errors import LogUnavailableError, NotCancellableError, QueueUnavailableError, RetryLaterError
from sred_email_core.queue.keys import GROUP, Lane
from sred_email_local.sandbox.rules import Action, Rule
from support.world import until

LIMITED = Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "5"}, times=1)
FAILED = Rule(status=500, times=1)
REJECTED = Rule(status=422, name="validation_error")
UNANSWERED = Rule(action=Action.ACCEPT_THEN_500, times=1)


@dataclass(frozen=True, slots=True)
class Loss:
    """An answer that is lost.

    Attributes:
        step: Of this step.
        rules: What the provider does.
        earlier: How often the email is worked on before.
        ends: How it ends, at the latest.
    """

    step: str
    rules: tuple[Rule, ...] = ()
    earlier: int = 0
    ends: str = "SUCCESS"


LOSSES = {
    "the claim": Loss("claim_sends.sql"),
    "the record of a 200": Loss("record_answers.sql"),
    "finishing": Loss("finish.lua"),
    "the record of a 429": Loss("record_failures.sql", (LIMITED,)),
    "parking": Loss("park.lua", (LIMITED,)),
    "holding": Loss("hold.lua", (LIMITED,)),
    "promoting": Loss("promote.lua", (LIMITED,), earlier=1),
    "the record of a 500": Loss("record_failures.sql", (FAILED,)),
    "parking a send": Loss("park_sends.lua", (FAILED,)),
    "taking a repeat": Loss("take.lua", (UNANSWERED,), earlier=1),
    "the claim of a repeat": Loss("claim_repeats.sql", (UNANSWERED,), earlier=1),
    "reading a repeat": Loss("get_members.sql", (UNANSWERED,), earlier=1),
    "the record of a repeat": Loss("record_answers.sql", (UNANSWERED,), earlier=1),
    "finishing a repeat": Loss("finish_sends.lua", (UNANSWERED,), earlier=1),
    "the record of a repeat's 429": Loss("record_failures.sql", (UNANSWERED, LIMITED), earlier=1),
    "parking a repeat": Loss("park_sends.lua", (UNANSWERED, LIMITED), earlier=1),
    "the record of a 422": Loss("record_failures.sql", (REJECTED,), ends="FAILED"),
    "burying": Loss("bury.lua", (REJECTED,), ends="FAILED"),
}


async def come_to_rest(stage: Stage, consumer: Consumer) -> None:
    """Let time pass, and everybody do what they do, until nothing is left to do."""
    for _ in range(4):
        await stage.time_passes(LEASE_S + 1)
        await consumer.take_over()
        await stage.reconcile()


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
@pytest.mark.parametrize("what", LOSSES)
async def test_the_answer_to_a_step_of_delivery_is_lost(stage: Stage, what: str, emails: int) -> None:
    loss = LOSSES[what]
    consumer = stage.consumer(consumer_slots=1, retry_base_delay="0.01")
    subjects = [f"lost {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(*(replace(rule) for rule in loss.rules))
    for _ in range(loss.earlier):
        await consumer.take()
        await stage.time_passes(30)
    lost = consumer.process.lose_answer(loss.step)
    for _ in range(3):
        with suppress(QueueUnavailableError):
            await consumer.work()
    assert lost.reached.is_set()
    await come_to_rest(stage, stage.consumer())
    for email_id, subject in zip(ids, subjects, strict=True):
        assert await stage.status(email_id) == loss.ends
        if loss.ends == "SUCCESS":
            await stage.assert_sent_once(email_id, subject)
        else:
            row = await stage.row(email_id)
            assert (row["reason"], stage.deliveries(subject)) == ("REJECTED", 0)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("lane", ["NORMAL", "HIGH"])
async def test_hazard_6_entries_whose_taking_was_answered_to_nobody_come_up_again_within_seconds(
    stage: Stage, lane: str
) -> None:
    consumer = stage.consumer()
    ids = await stage.accept("one", "two", "three", priority=Lane[lane].value)
    lost = consumer.process.lose_answer("take.lua")
    stop = asyncio.Event()
    began = time.monotonic()
    running = asyncio.create_task(consumer.parts.consumer.run(stop))
    try:
        for email_id in ids:
            await until(lambda email_id=email_id: has_ended(stage, email_id), "it is delivered", timeout_s=5)  # type: ignore[misc]
    finally:
        stop.set()
        await running
    assert lost.reached.is_set()
    assert time.monotonic() - began < 5 < LEASE_S
    for email_id, subject in zip(ids, ("one", "two", "three"), strict=True):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    for stream in stage.keys.streams:
        assert (await stage.redis.xpending(stream, GROUP))["pending"] == 0


async def has_ended(stage: Stage, email_id: str) -> bool:
    return await stage.status(email_id) == "SUCCESS"


async def test_hazard_1_the_commit_was_answered_to_nobody_and_the_caller_tries_again(stage: Stage) -> None:
    lost = stage.ingress_process.lose_answer("accept_emails.sql")
    with pytest.raises(LogUnavailableError):
        await stage.accept_one("committed")
    assert lost.reached.is_set()
    email_id = await stage.accept_one("committed")
    assert await stage.pool.fetchval("SELECT count(*) FROM email_send_log") == 1
    await stage.consumer().work()
    await stage.assert_sent_once(email_id, "committed")
    await stage.assert_nothing_left()


async def test_hazard_1_the_commit_was_answered_to_nobody_and_nobody_tries_again(stage: Stage) -> None:
    stage.ingress_process.lose_answer("accept_emails.sql")
    with pytest.raises(LogUnavailableError):
        await stage.accept_one("forgotten")
    await stage.time_passes(60)
    await stage.reconcile()
    await stage.consumer().work()
    email_id = str(await stage.pool.fetchval("SELECT id FROM email_send_log"))
    await stage.assert_sent_once(email_id, "forgotten")


async def test_hazard_2_publishing_that_was_answered_to_nobody_is_done_once(stage: Stage) -> None:
    lost = stage.ingress_process.lose_answer("publish.lua")
    email_id = await stage.accept_one("published")
    assert lost.reached.is_set()
    assert await stage.accept_one("published") == email_id
    await stage.time_passes(60)
    await stage.reconcile()
    assert await stage.redis.xlen(stage.keys.stream(Lane.NORMAL)) == 1
    await stage.consumer().work()
    stage.assert_one_send("published", requests=1)
    await stage.assert_sent_once(email_id, "published")


@pytest.mark.parametrize("step", ["commit", "cancel.lua"])
async def test_a_cancellation_that_was_answered_to_nobody_holds(stage: Stage, step: str) -> None:
    email_id = await stage.accept_one("cancelled")
    lost = stage.ingress_process.lose_answer(step)
    with suppress(RetryLaterError):
        await stage.cancel(email_id)
    assert lost.reached.is_set()
    with pytest.raises(NotCancellableError) as again:
        await stage.cancel(email_id)
    assert again.value.status == "CANCELLED"
    await stage.consumer().work()
    assert stage.requests == []
    await stage.assert_nothing_left()


async def bury(stage: Stage, consumer: Consumer, *rules: Rule) -> str:
    """An email that is a dead letter."""
    email_id = await stage.accept_one("letter")
    stage.rules(*rules)
    for _ in range(2):
        await consumer.work()
        await stage.time_passes(60)
    stage.rules()
    assert await stage.status(email_id) == "FAILED"
    return email_id


@pytest.mark.parametrize("step", ["replay_dead_letters.sql", "unbury.lua", "publish.lua", "park_sends.lua"])
@pytest.mark.parametrize("repeated", [False, True], ids=["anew", "repeated"])
async def test_a_replay_that_was_answered_to_nobody_is_done_once(stage: Stage, step: str, repeated: bool) -> None:
    consumer = stage.consumer(max_attempts=2)
    rules = (UNANSWERED, Rule(status=500)) if repeated else (REJECTED,)
    email_id = await bury(stage, consumer, *(replace(rule) for rule in rules))
    consumer.process.lose_answer(step)
    with suppress(RetryLaterError):
        await consumer.replay()
    assert (await consumer.replay()).replayed == 0
    await come_to_rest(stage, stage.consumer())
    await stage.assert_sent_once(email_id, "letter")
    assert len(stage.requests) == (3 if repeated else 2)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("step", ["record_malformed.sql", "bury.lua"])
async def test_a_malformed_entry_whose_keeping_was_answered_to_nobody_is_one_letter(stage: Stage, step: str) -> None:
    consumer = stage.consumer()
    await stage.redis.xadd(stage.keys.stream(Lane.NORMAL), {"email_id": "none", "message": b"\xff"})
    lost = consumer.process.lose_answer(step)
    await consumer.work()
    assert lost.reached.is_set()
    assert await stage.pool.fetchval("SELECT count(*) FROM email_dead_letters") == 1
    await stage.assert_nothing_left()


@pytest.mark.parametrize("step", ["undo_claims.sql", "hand_back.lua"])
async def test_giving_a_claim_back_is_answered_to_nobody(stage: Stage, step: str) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("given back")
    claimed = consumer.process.stop_after("claim_sends.sql")
    lost = consumer.process.lose_answer(step)
    await consumer.begin()
    await claimed.until_reached()
    await stage.time_passes(LEASE_S + 1)
    claimed.go_on()
    await consumer.settle()
    assert lost.reached.is_set()
    await stage.consumer().work()
    stage.assert_one_send("given back", requests=1)
    await stage.assert_sent_once(email_id, "given back")


async def test_reclaiming_that_was_answered_to_nobody_counts_one_death(stage: Stage) -> None:
    dead, consumer = stage.consumer(), stage.consumer()
    email_id = await stage.accept_one("reclaimed")
    before = dead.process.stop_before("claim_sends.sql")
    await dead.begin()
    await before.until_reached()
    await stage.time_passes(LEASE_S + 1)
    consumer.process.lose_answer("reclaim.lua")
    consumer.process.lose_answer("reclaim.lua")
    for _ in range(2):
        with suppress(QueueUnavailableError):
            await consumer.parts.reclaimer.run_once()
    await consumer.parts.reclaimer.run_once()
    (pending,) = await stage.redis.xpending_range(stage.keys.stream(Lane.NORMAL), GROUP, "-", "+", 10)
    assert (pending["consumer"], pending["times_delivered"]) == (b"orphans", 2)
    await consumer.work()
    stage.assert_one_send("reclaimed", requests=1)
    await stage.assert_sent_once(email_id, "reclaimed")
    before.go_on()
    await dead.settle()
    assert len(stage.requests) == 1
