"""Dead letters that are replayed: early, late, and at the very moment at which they are buried."""

import asyncio
from dataclasses import replace

import pytest

from crash.interleavings.stage import Consumer, Stage
from sred_email_consumer.operations import Replayed
from sred_email_local.sandbox.rules import Action, Rule

HOURS = 3600
RESET = Rule(action=Action.ACCEPT_THEN_RESET, times=1)
REFUSED = Rule(status=422, name="validation_error")
_SIZES = pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
_LETTERS = {
    "ATTEMPTS_EXHAUSTED": [RESET, Rule(status=500)],
    "OUTCOME_UNKNOWN": [RESET, REFUSED],
    "REJECTED": [REFUSED],
}


async def bury(stage: Stage, consumer: Consumer, reason: str, subjects: list[str]) -> list[str]:
    """Accept emails, and let the provider do what makes dead letters of them for this reason."""
    ids = await stage.accept(*subjects)
    stage.rules(*(replace(rule) for rule in _LETTERS[reason]))
    for _ in range(3):
        await consumer.work()
        await stage.time_passes(60)
    stage.rules()
    for email_id in ids:
        row = await stage.row(email_id)
        assert (row["status"], row["reason"]) == ("FAILED", reason)
        assert row["may_have_been_accepted"] is (reason != "REJECTED")
    return ids


def small(stage: Stage) -> Consumer:
    """A consumer that batches what it takes, and gives up soon."""
    return stage.consumer(consumer_slots=1, max_attempts=2)


@_SIZES
async def test_a_replay_at_hour_22_repeats_the_same_key_and_bytes(stage: Stage, emails: int) -> None:
    consumer = small(stage)
    subjects = [f"early {n}" for n in range(emails)]
    ids = await bury(stage, consumer, "ATTEMPTS_EXHAUSTED", subjects)
    await stage.time_passes(22 * HOURS)
    letters = [(await stage.row(email_id))["letter"] for email_id in ids]
    assert await consumer.replay(ids=letters[:1]) == Replayed(emails, 0, 0)  # with its whole send
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=3)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@_SIZES
async def test_even_a_forced_replay_at_hour_22_repeats_the_same_key_and_bytes(stage: Stage, emails: int) -> None:
    consumer = small(stage)
    subjects = [f"forced {n}" for n in range(emails)]
    ids = await bury(stage, consumer, "OUTCOME_UNKNOWN", subjects)
    await stage.time_passes(22 * HOURS)
    assert await consumer.replay() == Replayed(0, emails, 0)
    await stage.assert_nothing_left()
    assert (await consumer.replay(include_outcome_unknown=True)).replayed == emails
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=3)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@_SIZES
@pytest.mark.parametrize("reason", ["ATTEMPTS_EXHAUSTED", "OUTCOME_UNKNOWN"])
async def test_a_replay_at_hour_30_needs_to_be_forced_and_then_has_a_new_key(
    stage: Stage, reason: str, emails: int
) -> None:
    consumer = small(stage)
    subjects = [f"forced late {n}" for n in range(emails)]
    ids = await bury(stage, consumer, reason, subjects)
    requests = len(stage.requests)
    await stage.time_passes(30 * HOURS)
    assert await consumer.replay() == Replayed(0, emails, 0)
    await consumer.work()
    assert len(stage.requests) == requests
    assert (await consumer.replay(include_outcome_unknown=True)).replayed == emails
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        row = await stage.row(email_id)
        assert (row["status"], row["message"], row["letter"]) == ("SUCCESS", None, None)
        *before, last = [r.idempotency_key for r in stage.requests_about(subject)]
        assert len(before) == 2
        assert last not in before
    await stage.assert_nothing_left()


@_SIZES
@pytest.mark.parametrize("hours", [0, 22, 30])
async def test_a_replay_of_what_was_certainly_refused_has_a_new_key_at_any_hour(
    stage: Stage, hours: int, emails: int
) -> None:
    consumer = small(stage)
    subjects = [f"rejected {n}" for n in range(emails)]
    ids = await bury(stage, consumer, "REJECTED", subjects)
    asked = {r.idempotency_key for r in stage.requests}
    await stage.time_passes(hours * HOURS)
    assert await consumer.replay() == Replayed(emails, 0, 0)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
        assert stage.requests_about(subject)[-1].idempotency_key not in asked
    await stage.assert_nothing_left()


async def test_one_of_a_send_past_its_horizon_may_be_forced_and_the_others_stay(stage: Stage) -> None:
    consumer = small(stage)
    one, other = await bury(stage, consumer, "ATTEMPTS_EXHAUSTED", ["forced", "left"])
    await stage.time_passes(30 * HOURS)
    letter = (await stage.row(one))["letter"]
    assert (await consumer.replay(ids=[letter], include_outcome_unknown=True)).replayed == 1
    await consumer.work()
    assert (await stage.status(one), await stage.status(other)) == ("SUCCESS", "FAILED")
    assert (await stage.row(other))["message"] is not None
    assert (await consumer.replay(include_outcome_unknown=True)).replayed == 1
    await consumer.work()
    assert await stage.status(other) == "SUCCESS"
    await stage.assert_nothing_left()


async def test_a_replay_starts_the_attempts_anew_but_never_the_horizon(stage: Stage) -> None:
    consumer = small(stage)
    (email_id,) = await bury(stage, consumer, "ATTEMPTS_EXHAUSTED", ["twice"])
    await stage.time_passes(22 * HOURS)
    stage.rules(Rule(status=500))
    assert (await consumer.replay()).replayed == 1
    await consumer.work()
    assert await stage.status(email_id) == "RETRYING"  # one attempt of two
    await stage.time_passes(HOURS)
    await consumer.work()
    row = await stage.row(email_id)
    assert (row["status"], row["reason"]) == ("FAILED", "OUTCOME_UNKNOWN")  # hour 23
    stage.assert_one_send("twice", requests=3)
    assert await consumer.replay() == Replayed(0, 1, 0)


_BURIALS = pytest.mark.parametrize("step", ["record_failures.sql", "bury.lua", "finish*.lua"])


@_SIZES
@_BURIALS
@pytest.mark.parametrize("reason", ["ATTEMPTS_EXHAUSTED", "REJECTED"])
async def test_a_replay_races_the_consumer_that_still_buries_the_letter(
    stage: Stage, reason: str, step: str, emails: int
) -> None:
    burying, other = small(stage), small(stage)
    subjects = [f"raced {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(*(replace(rule) for rule in _LETTERS[reason]))
    if reason == "ATTEMPTS_EXHAUSTED" or emails > 1:  # first it is repeated, or goes alone
        await burying.take()
        await stage.time_passes(60)
    held = burying.process.stop_after(step) if step == "record_failures.sql" else burying.process.stop_before(step)
    await burying.begin()
    await held.until_reached()
    stage.rules()
    await other.replay()
    await other.work()
    held.go_on()
    await burying.settle()
    await come_to_rest(stage, other)
    await other.replay()
    await come_to_rest(stage, other)
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def come_to_rest(stage: Stage, consumer: Consumer) -> None:
    """Let everything go on until nothing is left to do."""
    for _ in range(3):
        await stage.time_passes(3700)
        await stage.reconcile()
        await consumer.take_over()


@_SIZES
async def test_two_replays_at_once_are_one(stage: Stage, emails: int) -> None:
    one, other = small(stage), small(stage)
    subjects = [f"twice {n}" for n in range(emails)]
    ids = await bury(stage, one, "ATTEMPTS_EXHAUSTED", subjects)
    held = one.process.stop_after("replay_dead_letters.sql")
    first = asyncio.create_task(one.replay())
    await held.until_reached()
    assert (await other.replay()).replayed == 0
    await stage.reconcile()
    await other.work()
    held.go_on()
    assert (await first).replayed == emails
    await other.work()
    await stage.reconcile()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=3)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()
