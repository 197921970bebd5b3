"""A consumer stops while it works (SIGSTOP, a long pause, a moved machine); another takes over; the first wakes."""

import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crash.interleavings.stage import LEASE_S, Consumer, Stage
from crash.interleavings.steps import Trap
from sred_email_local.sandbox.rules import Action, Rule

ANSWERS_TO_B = {
    "accepted": None,
    "accepted without an answer": Rule(action=Action.ACCEPT_THEN_500, times=1),
    "429": Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "5"}, times=1),
    "401": Rule(status=401, name="missing_api_key", times=1),
    "403 domain": Rule(status=403, name="validation_error", times=1),
    "422": Rule(status=422, name="validation_error", times=1),
    "500": Rule(status=500, times=1),
}
_SIZES = pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])


async def state_of(stage: Stage) -> object:
    """All that B has decided: sends, emails, where they are and when they are due."""
    sends = await stage.pool.fetch("SELECT id, state, owner, fence, requests_begun, requests_refused FROM email_sends")
    emails = await stage.pool.fetch(
        "SELECT id, status, attempts, generation, last_error FROM email_send_log ORDER BY id"
    )
    events = await stage.pool.fetchval("SELECT count(*) FROM email_events")
    keys, redis = stage.keys, stage.redis
    streams = [await redis.xrange(stream) for stream in keys.streams]
    pending = [await redis.xpending_range(stream, "email-consumers", "-", "+", 100) for stream in keys.streams]
    owners = [(entry["message_id"], entry["consumer"]) for entries in pending for entry in entries]
    retry = await redis.zrange(keys.retry, 0, -1, withscores=True)
    return (
        [tuple(row) for row in [*sends, *emails]],
        events,
        (streams, owners, retry, await redis.hgetall(keys.places), await redis.xlen(keys.dlq)),
    )


async def wake(consumer: Consumer, trap: Trap) -> None:
    """Let a consumer go on, and finish what it believes it has to do."""
    trap.go_on()
    await consumer.settle()


async def end_well(stage: Stage, ids: list[str], subjects: list[str]) -> None:
    """Let another consumer finish everything; each email was delivered once."""
    last = stage.consumer()
    for _ in range(3):
        await stage.time_passes(3700)
        await last.take_over()
    await stage.reconcile()  # a late 200 leaves places of emails behind that another had put into their send
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@_SIZES
@pytest.mark.parametrize("answer", ANSWERS_TO_B)
async def test_hazard_7_who_wakes_after_its_lease_posts_nothing_and_moves_nothing(
    stage: Stage, answer: str, emails: int
) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"stopped {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    claimed = a.process.stop_after("claim_sends.sql")
    await a.begin()
    await claimed.until_reached()
    await stage.time_passes(LEASE_S + 1)
    rule = ANSWERS_TO_B[answer]
    stage.rules(*([] if rule is None else [replace(rule)]))
    await b.take_over()
    requests = len(stage.requests)
    assert requests == 1
    before = await state_of(stage)
    await wake(a, claimed)
    assert len(stage.requests) == requests
    assert await state_of(stage) == before
    await end_well(stage, ids, subjects)


@_SIZES
async def test_hazard_7_who_wakes_after_its_lease_gives_back_what_nobody_else_took(stage: Stage, emails: int) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"alone {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    claimed = a.process.stop_after("claim_sends.sql")
    await a.begin()
    await claimed.until_reached()
    await stage.time_passes(LEASE_S + 1)
    await wake(a, claimed)
    assert stage.requests == []
    assert [await stage.status(email_id) for email_id in ids] == ["QUEUED"] * emails
    assert await stage.pool.fetchval("SELECT count(*) FROM email_sends") == 0
    await b.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=1)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@_SIZES
async def test_hazard_7_who_repeats_and_wakes_after_its_lease_gives_the_repeat_back(stage: Stage, emails: int) -> None:
    a = stage.consumer(consumer_slots=1)
    subjects = [f"repeat {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(Rule(action=Action.ACCEPT_THEN_500, times=1))
    await a.take()
    await stage.time_passes(60)
    claimed = a.process.stop_after("claim_repeats.sql")
    await a.begin()
    await claimed.until_reached()
    await stage.time_passes(LEASE_S + 1)
    await wake(a, claimed)
    assert len(stage.requests) == 1
    await end_well(stage, ids, subjects)
    assert len(stage.requests) == 2


@_SIZES
@pytest.mark.parametrize("answer", ANSWERS_TO_B)
async def test_hazard_7_a_request_that_leaves_late_is_the_same_one(stage: Stage, answer: str, emails: int) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"late {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    leaving = a.process.stop_before("POST *")  # nothing can fence what comes now
    await a.begin()
    await leaving.until_reached()
    await stage.time_passes(LEASE_S + 1)
    rule = ANSWERS_TO_B[answer]
    stage.rules(*([] if rule is None else [replace(rule)]))
    await b.take_over()
    await wake(a, leaving)  # its request is answered 200, and a 200 is a fact
    for email_id, subject in zip(ids, subjects, strict=True):
        assert (await stage.status(email_id), stage.deliveries(subject)) == ("SUCCESS", 1)
    await end_well(stage, ids, subjects)


@_SIZES
@pytest.mark.parametrize("answer", ["accepted", "accepted without an answer", "429", "422"])
@pytest.mark.parametrize("late", ["200", "500", "422", "429"])
async def test_hazard_8_a_late_answer_moves_nothing_that_is_anothers(
    stage: Stage, late: str, answer: str, emails: int
) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"answered {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    if late != "200":
        stage.rules(Rule(status=int(late), name="validation_error", headers={"retry-after": "4000"}, times=1))
    answered = a.process.stop_after("POST *")
    await a.begin()
    await answered.until_reached()
    await stage.time_passes(LEASE_S + 1)
    rule = ANSWERS_TO_B[answer]
    stage.rules(*([] if rule is None else [replace(rule)]))
    await b.take_over()
    before = await state_of(stage)
    await wake(a, answered)
    if late != "200":
        dispatch = await stage.redis.hget(stage.keys.dispatch, "state")
        assert await state_of(stage) == before, dispatch
    else:
        assert [await stage.status(email_id) for email_id in ids] == ["SUCCESS"] * emails
    await end_well(stage, ids, subjects)


@_SIZES
@pytest.mark.parametrize("late", ["500", "422", "429"])
@pytest.mark.parametrize("step", ["POST *", "record_*.sql"])
async def test_hazard_7_a_late_answer_takes_no_lease_from_who_is_sending(
    stage: Stage, step: str, late: str, emails: int
) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1)
    subjects = [f"leased {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(Rule(status=int(late), name="validation_error", headers={"retry-after": "5"}, times=1))
    answered = a.process.stop_after("POST *")
    await a.begin()
    await answered.until_reached()
    await stage.time_passes(LEASE_S + 1)
    await b.parts.reclaimer.run_once()
    await b.take()  # finds the send
    sending = b.process.stop_before(step)
    await b.begin()
    await sending.until_reached()
    before = await state_of(stage)
    await wake(a, answered)
    assert await state_of(stage) == before
    await wake(b, sending)
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)
    await end_well(stage, ids, subjects)


@pytest.mark.parametrize(
    ("step", "rule"),
    [
        ("finish.lua", None),
        ("park.lua", Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "5000"}, times=1)),
        ("park_sends.lua", Rule(status=500, headers={"retry-after": "5000"}, times=1)),
        ("bury.lua", Rule(status=422, name="validation_error", times=1)),
    ],
    ids=["finish", "park", "park a send", "bury"],
)
async def test_hazard_8_a_late_move_leaves_alone_what_another_took_over(
    stage: Stage, step: str, rule: Rule | None
) -> None:
    a, b = stage.consumer(), stage.consumer()
    email_id = await stage.accept_one("moved")
    stage.rules(*([] if rule is None else [replace(rule)]))
    moving = a.process.stop_before(step)
    await a.begin()
    await moving.until_reached()
    await stage.time_passes(LEASE_S + 1)
    await b.take_over()
    before = await state_of(stage)
    await wake(a, moving)
    after = await state_of(stage)
    if step == "bury.lua":  # it shows the letter, once
        assert (await stage.row(email_id))["reason"] == "REJECTED"
        await stage.assert_nothing_left()
        return
    if step != "park_sends.lua":  # the lease was given back: who held it last says when the send is due
        assert after == before
    await end_well(stage, [email_id], ["moved"])


@_SIZES
@pytest.mark.parametrize("step", ["record_answers.sql", "finish.lua"])
async def test_hazard_3_a_consumer_dies_between_the_200_and_its_record(stage: Stage, step: str, emails: int) -> None:
    a = stage.consumer(consumer_slots=1)
    subjects = [f"died {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    dying = a.process.stop_before(step)
    await a.begin()
    await dying.until_reached()
    newer = await stage.accept_one("newer")  # what comes meanwhile must not join a batch that is repeated
    await stage.time_passes(LEASE_S + 1)
    b = stage.consumer(consumer_slots=1)
    await b.take_over()
    await b.take_over()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2 if step == "record_answers.sql" else 1)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_sent_once(newer, "newer")
    await stage.assert_nothing_left()
    await wake(a, dying)  # so that the test ends


@_SIZES
async def test_a_late_200_makes_a_dead_letter_a_success(stage: Stage, emails: int) -> None:
    a, b = stage.consumer(consumer_slots=1), stage.consumer(consumer_slots=1, max_attempts=1)
    subjects = [f"dead {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    answered = a.process.stop_after("POST *")
    await a.begin()
    await answered.until_reached()
    await stage.time_passes(LEASE_S + 1)
    stage.rules(Rule(status=500))
    await b.take_over()
    for email_id in ids:
        assert (await stage.row(email_id))["reason"] == "ATTEMPTS_EXHAUSTED"
    assert await stage.redis.xlen(stage.keys.dlq) == emails
    await wake(a, answered)
    for email_id, subject in zip(ids, subjects, strict=True):
        await stage.assert_sent_once(email_id, subject)
        letters = "SELECT resolution FROM email_dead_letters WHERE email_id = $1"
        assert await stage.pool.fetchval(letters, uuid.UUID(email_id)) == "DELIVERED"
    assert await stage.redis.xlen(stage.keys.dlq) == 0
    await stage.assert_nothing_left()
    assert (await b.replay(include_outcome_unknown=True)).replayed == 0


async def test_a_late_200_makes_an_expired_email_a_success(stage: Stage) -> None:
    a, b = stage.consumer(), stage.consumer()
    email_id = await stage.accept_one("expired", expire_at=datetime.now(UTC) + timedelta(hours=1))
    answered = a.process.stop_after("POST *")
    await a.begin()
    await answered.until_reached()
    await stage.time_passes(3700)
    await b.take_over()
    row = await stage.row(email_id)
    assert row["status"] == "EXPIRED"
    assert "may have been accepted" in row["last_error"]
    await wake(a, answered)
    await stage.assert_sent_once(email_id, "expired")
    await stage.assert_nothing_left()


async def test_who_wakes_after_its_email_expired_posts_nothing(stage: Stage) -> None:
    a = stage.consumer()
    email_id = await stage.accept_one("too late", expire_at=datetime.now(UTC) + timedelta(seconds=30))
    claimed = a.process.stop_after("claim_sends.sql")
    await a.begin()
    await claimed.until_reached()
    await stage.time_passes(31)  # within its lease
    await wake(a, claimed)
    await stage.consumer().work()
    assert stage.requests == []
    row = await stage.row(email_id)
    assert row["status"] == "EXPIRED"
    assert "accepted" not in row["last_error"]
    await stage.assert_nothing_left()
