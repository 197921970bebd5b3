"""Waits that are longer than the provider keeps a key: what may have been accepted is not posted after its horizon."""

from dataclasses import replace

import pytest

from crash.interleavings.stage import HORIZON_S, LEASE_S, Stage
from sred_email_local.sandbox.rules import Action, Rule

HOUR_S = 3600
LONG_S = 25 * HOUR_S
RESET = Rule(action=Action.ACCEPT_THEN_RESET, times=1)
WAITS = {
    "429": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": str(LONG_S)}, times=1),
    "quota": Rule(status=429, name="monthly_quota_exceeded", headers={"retry-after": str(LONG_S)}, times=1),
    "500": Rule(status=500, headers={"retry-after": str(LONG_S)}, times=1),
    "domain": Rule(status=403, name="validation_error", headers={"retry-after": str(LONG_S)}, times=1),
}
_SIZES = pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])


async def assert_given_up(stage: Stage, email_id: str, subject: str, *, requests: int) -> None:
    """An email became a dead letter of unknown outcome, after so many requests."""
    row = await stage.row(email_id)
    assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", "OUTCOME_UNKNOWN", True)
    stage.assert_one_send(subject, requests=requests)


@_SIZES
@pytest.mark.parametrize("wait", WAITS)
async def test_a_park_longer_than_the_horizon_ends_what_may_have_been_accepted(
    stage: Stage, wait: str, emails: int
) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"parked {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET), replace(WAITS[wait]))
    await consumer.take()
    await stage.time_passes(60)
    await consumer.take()
    for _ in range(3):
        await stage.time_passes(LONG_S / 2)
        await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        await assert_given_up(stage, email_id, subject, requests=2)
    await stage.assert_nothing_left()


@_SIZES
@pytest.mark.parametrize("wait", ["429", "quota"])
async def test_what_was_only_refused_has_no_horizon_and_is_sent_with_a_new_key(
    stage: Stage, wait: str, emails: int
) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"refused {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(WAITS[wait]))
    await consumer.take()
    for _ in range(3):
        await stage.time_passes(LONG_S / 2)
        await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        refused, sent = stage.requests_about(subject)
        assert (refused.status, sent.status) == (429, 200)
        assert refused.idempotency_key != sent.idempotency_key
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def test_a_hold_for_all_that_is_longer_than_the_horizon_ends_only_what_may_have_been_accepted(
    stage: Stage,
) -> None:
    consumer = stage.consumer()
    unknown = await stage.accept_one("unknown")
    stage.rules(replace(RESET), replace(WAITS["quota"]))
    await consumer.take()
    refused = await stage.accept_one("refused")
    await consumer.take()
    waiting = await stage.accept_one("waiting")
    for _ in range(10):  # the repeat is due long before the hold ends
        await stage.time_passes(LONG_S / 10 - 1)
        assert await consumer.take() == 0
    await stage.time_passes(60)
    await consumer.work()
    await assert_given_up(stage, unknown, "unknown", requests=1)
    await stage.assert_sent_once(refused, "refused")
    await stage.assert_sent_once(waiting, "waiting")
    await stage.assert_nothing_left()


@_SIZES
@pytest.mark.parametrize(("before_s", "requests"), [(-120, 2), (0, 1)], ids=["just before", "at"])
async def test_the_horizon_is_looked_at_right_before_the_repeat(
    stage: Stage, before_s: int, requests: int, emails: int
) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"horizon {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET))
    await consumer.take()
    await stage.time_passes(HORIZON_S + before_s)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        if requests == 1:
            await assert_given_up(stage, email_id, subject, requests=1)
        else:
            stage.assert_one_send(subject, requests=2)
            await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@_SIZES
async def test_an_owner_that_died_long_ago_leaves_what_may_have_been_accepted(stage: Stage, emails: int) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"dead owner {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    claimed = a.process.stop_after("claim_sends.sql")
    await a.begin()
    await claimed.until_reached()
    await stage.time_passes(HORIZON_S + LEASE_S)  # nobody knows whether it posted
    await b.take_over()
    for email_id in ids:
        row = await stage.row(email_id)
        assert (row["status"], row["reason"]) == ("FAILED", "OUTCOME_UNKNOWN")
    claimed.go_on()
    await a.settle()
    assert stage.requests == []
    await stage.assert_nothing_left()


@_SIZES
async def test_refusals_that_clear_the_doubt_clear_the_horizon_too(stage: Stage, emails: int) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"clear {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "5"}, times=1), replace(RESET))
    await consumer.take()
    await stage.time_passes(22 * HOUR_S)
    await consumer.work()  # the first request that may have been accepted
    await stage.time_passes(22 * HOUR_S)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        assert len(stage.requests_about(subject)) == 3
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()
