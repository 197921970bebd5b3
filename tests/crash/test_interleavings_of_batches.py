"""Emails that share a request: what is wrong with one of them is said of all, or by a number, or not at all."""

import json
import re
from dataclasses import replace

import pytest

from crash.interleavings.stage import Consumer, Stage
from sred_email_local.sandbox.rules import Action, Rule

GOOD = [f"good {n}" for n in range(4)]
BAD = "bad"
REJECT = Rule(action=Action.REJECT, subject=re.compile(f"^{BAD}$"), status=422, name="validation_error")


def batching(stage: Stage, **settings: object) -> Consumer:
    """A consumer that batches what it takes."""
    return stage.consumer(consumer_slots=1, **settings)


async def run(stage: Stage, consumer: Consumer, rounds: int = 4) -> None:
    """Let time pass and work be done."""
    for _ in range(rounds):
        await consumer.work()
        await stage.time_passes(3700)


async def test_hazard_18_one_bad_email_among_good_ones_learns_its_own_answer_alone(stage: Stage) -> None:
    consumer = batching(stage)
    good, (bad,) = await stage.accept(*GOOD[:2]), await stage.accept(BAD)
    good += await stage.accept(*GOOD[2:])
    stage.rules(replace(REJECT))
    await consumer.work()
    for email_id, subject in zip(good, GOOD, strict=True):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    batch, alone = stage.requests_about(BAD)
    assert (batch.path, batch.n, alone.path, alone.n) == ("/emails/batch", 5, "/emails", 1)
    assert alone.idempotency_key != batch.idempotency_key
    row = await stage.row(bad)
    assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", "REJECTED", False)
    await stage.assert_nothing_left()


async def test_hazard_18_the_same_when_the_answer_comes_to_two_owners(stage: Stage) -> None:
    a, b = batching(stage), batching(stage)
    good, (bad,) = await stage.accept(*GOOD), await stage.accept(BAD)
    stage.rules(replace(REJECT, times=1))
    answered = a.process.stop_after("POST *")
    await a.begin()
    await answered.until_reached()
    await stage.time_passes(61)
    await b.parts.reclaimer.run_once()
    await b.take()  # finds the send
    await b.take()  # repeats it: the provider gives its first answer again
    stage.rules(replace(REJECT))
    await b.work()
    before = dict(await stage.row(bad))
    answered.go_on()
    await a.settle()
    assert dict(await stage.row(bad)) == before
    await run(stage, b)
    for email_id, subject in zip(good, GOOD, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)
    row = await stage.row(bad)
    assert (row["status"], row["reason"], stage.deliveries(BAD)) == ("FAILED", "REJECTED", 0)
    await stage.assert_nothing_left()


DATA = [{"id": f"id-{n}"} for n in range(6)]
UNBALANCED: dict[str, object] = {
    "one id too few": {"data": DATA[:4]},
    "one id too many": {"data": DATA[:6]},
    "no ids": {"data": []},
    "ids and errors that are too many": {"data": DATA[:5], "errors": [{"index": 0, "message": "no"}]},
    "an error that has no index": {"data": DATA[:4], "errors": [{"message": "no"}]},
    "an error beyond the batch": {"data": DATA[:4], "errors": [{"index": 5, "message": "no"}]},
    "an error before the batch": {"data": DATA[:4], "errors": [{"index": -1, "message": "no"}]},
    "one error twice": {"data": DATA[:3], "errors": [{"index": 1, "message": "no"}, {"index": 1, "message": "no"}]},
    "an index that is a word": {"data": DATA[:4], "errors": [{"index": "1", "message": "no"}]},
    "an index that is true": {"data": DATA[:4], "errors": [{"index": True, "message": "no"}]},
    "ids that are empty": {"data": [{"id": ""}] * 5},
    "ids that are numbers": {"data": [{"id": n} for n in range(5)]},
    "data that is an object": {"data": {"id": "x"}},
    "errors that are an object": {"data": DATA[:4], "errors": {"index": 1}},
    "one id for all": {"id": "x"},
    "a list": DATA[:5],
    "null": None,
    "a word": "ok",
}


@pytest.mark.parametrize("shape", UNBALANCED)
async def test_hazard_18_where_the_counts_do_not_add_up_nothing_is_guessed(stage: Stage, shape: str) -> None:
    consumer = batching(stage)
    subjects = [*GOOD, "another"]
    ids = await stage.accept(*subjects)
    stage.rules(Rule(action=Action.ACCEPT_THEN_500, status=200, text=json.dumps(UNBALANCED[shape]), times=1))
    await consumer.take()
    for email_id in ids:
        assert await stage.status(email_id) == "RETRYING"
    await run(stage, consumer)
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize(
    ("status", "name"),
    [(400, "validation_error"), (403, "validation_error"), (413, "payload_too_large"), (422, "validation_error")],
)
async def test_hazard_18_a_batch_that_is_refused_as_a_whole_dissolves_and_each_goes_alone(
    stage: Stage, status: int, name: str
) -> None:
    consumer = batching(stage)
    ids = await stage.accept(*GOOD)
    stage.rules(Rule(status=status, name=name, times=1))
    await run(stage, consumer)
    keys = set()
    for email_id, subject in zip(ids, GOOD, strict=True):
        batch, alone = stage.requests_about(subject)
        assert (batch.path, batch.status, alone.path, alone.status) == ("/emails/batch", status, "/emails", 200)
        keys |= {batch.idempotency_key, alone.idempotency_key}
        await stage.assert_sent_once(email_id, subject)
        assert (await stage.row(email_id))["attempts"] == 1  # the refusal was not about it
    assert len(keys) == 1 + len(GOOD)
    await stage.assert_nothing_left()


async def test_emails_that_go_alone_do_so_also_when_redis_forgot_it(stage: Stage) -> None:
    consumer = batching(stage)
    ids = await stage.accept(*GOOD)
    stage.rules(Rule(status=422, name="validation_error", times=1))
    await consumer.take()
    await stage.redis.flushall()
    await stage.reconcile()
    await run(stage, consumer)
    for email_id, subject in zip(ids, GOOD, strict=True):
        _, alone = stage.requests_about(subject)
        assert alone.path == "/emails"
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("name", ["rate_limit_exceeded", "daily_quota_exceeded"])
async def test_a_batch_that_was_only_refused_may_be_put_together_anew(stage: Stage, name: str) -> None:
    consumer = batching(stage)
    ids = await stage.accept(*GOOD)
    stage.rules(Rule(status=429, name=name, times=1))
    await consumer.take()
    newer = await stage.accept_one("newer")
    await run(stage, consumer)
    for email_id, subject in zip([*ids, newer], [*GOOD, "newer"], strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def test_of_a_batch_that_is_partly_gone_only_the_rest_is_sent(stage: Stage) -> None:
    consumer = batching(stage)
    ids = await stage.accept(*GOOD)
    before = consumer.process.stop_before("claim_sends.sql")
    await consumer.begin()
    await before.until_reached()
    await stage.cancel(ids[1])
    before.go_on()
    await consumer.settle()
    assert await stage.status(ids[1]) == "CANCELLED"
    (request,) = stage.requests
    assert request.subjects == [GOOD[0], *GOOD[2:]]
    for email_id, subject in zip([ids[0], *ids[2:]], [GOOD[0], *GOOD[2:]], strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()
