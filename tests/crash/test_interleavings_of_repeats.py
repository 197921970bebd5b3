"""An email that may have been accepted is repeated with the same key and bytes, whatever the repeat is answered."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from crash.interleavings.stage import Stage
from sred_email_consumer import serializer
from sred_email_core.errors import NotCancellableError
from sred_email_local.sandbox.rules import Action, Rule

RESET = Rule(action=Action.ACCEPT_THEN_RESET, times=1)
TIMEOUT = Rule(action=Action.ACCEPT_THEN_HANG, times=1)
ERROR_500 = Rule(action=Action.ACCEPT_THEN_500, times=1)


def refusal(status: int, name: str, *, retry_after_s: int | None = None, text: str | None = None) -> Rule:
    """An answer, given twice, that accepts nothing."""
    headers = {} if retry_after_s is None else {"retry-after": str(retry_after_s)}
    return Rule(status=status, name=name, message="No.", headers=headers, text=text, times=2)


REFUSALS = {
    "429": refusal(429, "rate_limit_exceeded", retry_after_s=7),
    "429 without a time": refusal(429, "rate_limit_exceeded"),
    "429 daily quota": refusal(429, "daily_quota_exceeded"),
    "429 monthly quota": refusal(429, "monthly_quota_exceeded", retry_after_s=3600),
    "401": refusal(401, "missing_api_key"),
    "403 key": refusal(403, "invalid_api_key"),
    "403 domain": refusal(403, "validation_error"),
    "404": refusal(404, "not_found"),
    "413": refusal(413, "payload_too_large"),
    "422": refusal(422, "validation_error"),
    "451": refusal(451, "security_error"),
    "500": refusal(500, "internal_server_error"),
    "502 of a proxy": refusal(502, "", text="<html>Bad gateway</html>"),
    "400 of a proxy": refusal(400, "", text="<html>Bad request</html>"),
    "302": refusal(302, "", text=""),
    "409 concurrent": refusal(409, "concurrent_idempotent_requests"),
    "409 locked": refusal(409, "resource_locked"),
}


async def refuse_its_repeats(stage: Stage, first: Rule, answer: Rule, subjects: list[str]) -> None:
    """Let a request be accepted without an answer, refuse two repeats of it, then answer."""
    consumer = stage.consumer(consumer_slots=1)
    ids = await stage.accept(*subjects)
    stage.rules(replace(first), replace(answer))
    await consumer.take()
    key = await stage.open_send(ids[0])
    assert key is not None
    for _ in range(2):
        await stage.time_passes(3700)
        await consumer.take()
        for email_id in ids:
            assert await stage.status(email_id) == "RETRYING"
            assert await stage.open_send(email_id) == key
    await stage.time_passes(3700)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=4)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
@pytest.mark.parametrize("answer", REFUSALS)
async def test_hazard_4_a_send_whose_first_request_was_accepted_survives_the_refusal_of_its_repeat(
    stage: Stage, answer: str, emails: int
) -> None:
    for first in (RESET, ERROR_500):
        await refuse_its_repeats(stage, first, REFUSALS[answer], [f"{first.action} {n}" for n in range(emails)])


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
@pytest.mark.parametrize("answer", ["429", "401", "422"])
async def test_hazard_4_a_send_that_timed_out_survives_the_refusal_of_its_repeat(
    stage: Stage, answer: str, emails: int
) -> None:
    await refuse_its_repeats(stage, TIMEOUT, REFUSALS[answer], [f"timeout {n}" for n in range(emails)])


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
async def test_a_send_whose_repeat_finds_no_connection_keeps_its_key(stage: Stage, emails: int) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"cut {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET))
    await consumer.take()
    await stage.sandbox.listen(on=False)
    for _ in range(10):  # more often than it may be attempted: no attempt is spent
        await stage.time_passes(60)
        await consumer.work()
    await stage.sandbox.listen(on=True)
    await stage.time_passes(60)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
async def test_a_send_of_a_newer_version_waits_for_a_consumer_that_knows_its_serializer(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, emails: int
) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"newer {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET))
    await consumer.take()
    with monkeypatch.context() as older:
        older.delitem(serializer._SERIALIZERS, 1)  # noqa: SLF001 - the consumer that comes to it is not upgraded yet
        for _ in range(10):
            await stage.time_passes(3700)
            await consumer.take()
            assert {await stage.status(email_id) for email_id in ids} == {"RETRYING"}
    await stage.time_passes(3700)
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=2)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


async def test_a_send_whose_serializer_nobody_knows_ends_with_its_horizon(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    consumer = stage.consumer(consumer_slots=1)
    email_id = await stage.accept_one("newer")
    stage.rules(replace(RESET))
    await consumer.take()
    monkeypatch.delitem(serializer._SERIALIZERS, 1)  # noqa: SLF001 - as if it had been taken away
    for _ in range(2):
        await stage.time_passes(24 * 3600)
        await consumer.take()
    assert await stage.status(email_id) == "FAILED"
    stage.assert_one_send("newer", requests=1)


async def test_a_first_request_that_met_its_own_key_in_use_may_have_been_accepted(stage: Stage) -> None:
    email_id = await stage.accept_one("in use")
    consumer = stage.consumer()
    stage.rules(replace(REFUSALS["409 concurrent"], times=1), replace(REFUSALS["422"], times=1))
    for _ in range(3):
        await consumer.work()
        await stage.time_passes(60)
    stage.assert_one_send("in use", requests=3)
    await stage.assert_sent_once(email_id, "in use")


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
async def test_a_key_that_is_spent_is_never_posted_again_by_itself(stage: Stage, emails: int) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"spent {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET), Rule(status=409, name="invalid_idempotent_request"))
    for _ in range(5):
        await consumer.work()
        await stage.time_passes(3700)
    for email_id, subject in zip(ids, subjects, strict=True):
        row = await stage.row(email_id)
        assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", "OUTCOME_UNKNOWN", True)
        stage.assert_one_send(subject, requests=2)
        assert stage.deliveries(subject) == 1
    await stage.assert_nothing_left()
    stage.rules()
    assert (await consumer.replay()).replayed == 0
    assert (await consumer.replay(include_outcome_unknown=True)).replayed == emails
    await consumer.work()
    for email_id, subject in zip(ids, subjects, strict=True):
        assert await stage.status(email_id) == "SUCCESS"
        assert len({request.idempotency_key for request in stage.requests_about(subject)}) == 2
        assert stage.deliveries(subject) == 2  # a person asked for it, and was told


@pytest.mark.parametrize(
    ("answer", "reason"), [("422", "OUTCOME_UNKNOWN"), ("500", "ATTEMPTS_EXHAUSTED")], ids=["refused", "unknown"]
)
@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
async def test_a_send_whose_repeats_end_without_an_answer_is_given_up_as_maybe_accepted(
    stage: Stage, answer: str, reason: str, emails: int
) -> None:
    consumer = stage.consumer(consumer_slots=1, max_attempts=3)
    subjects = [f"given up {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET), replace(REFUSALS[answer], times=None))
    for _ in range(5):
        await consumer.work()
        await stage.time_passes(3700)
    for email_id, subject in zip(ids, subjects, strict=True):
        row = await stage.row(email_id)
        assert (row["status"], row["reason"], row["may_have_been_accepted"]) == ("FAILED", reason, True)
        assert row["message"] is not None
        stage.assert_one_send(subject, requests=3)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
async def test_a_member_of_a_maybe_accepted_send_cannot_be_cancelled(stage: Stage, emails: int) -> None:
    consumer = stage.consumer(consumer_slots=1)
    subjects = [f"cancelled {n}" for n in range(emails)]
    ids = await stage.accept(*subjects)
    stage.rules(replace(RESET), replace(REFUSALS["429"]), replace(REFUSALS["422"]))
    for _ in range(6):
        await consumer.work()
        if await stage.status(ids[-1]) != "SUCCESS":
            with pytest.raises(NotCancellableError):
                await stage.cancel(ids[-1])
        await stage.time_passes(60)
    for email_id, subject in zip(ids, subjects, strict=True):
        stage.assert_one_send(subject, requests=6)
        await stage.assert_sent_once(email_id, subject)
    with pytest.raises(NotCancellableError):
        await stage.cancel(ids[-1])


async def test_a_member_that_expired_is_repeated_with_the_rest_of_its_batch(stage: Stage) -> None:
    consumer = stage.consumer(consumer_slots=1)
    one, other = await stage.accept("stays 1", "stays 2")
    expiring = await stage.accept_one("expires", expire_at=datetime.now(UTC) + timedelta(hours=1))
    stage.rules(replace(RESET), replace(REFUSALS["429"]))
    await consumer.take()
    for _ in range(3):
        await stage.time_passes(3700)
        await consumer.work()
    for email_id, subject in ((one, "stays 1"), (other, "stays 2"), (expiring, "expires")):
        stage.assert_one_send(subject, requests=4)
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("answer", ["429", "422", "500", None])
async def test_a_lone_email_that_expired_meanwhile_ends_as_expired_and_says_that_it_may_be_out(
    stage: Stage, answer: str | None
) -> None:
    consumer = stage.consumer()
    email_id = await stage.accept_one("late", expire_at=datetime.now(UTC) + timedelta(hours=1))
    stage.rules(replace(RESET), *([] if answer is None else [replace(REFUSALS[answer], times=1)]))
    await consumer.take()
    if answer is not None:
        await stage.time_passes(600)
        await consumer.take()
    await stage.time_passes(3700)
    await consumer.work()
    row = await stage.row(email_id)
    assert row["status"] == "EXPIRED"
    assert "may have been accepted" in row["last_error"]
    assert row["message"] is None
    stage.assert_one_send("late", requests=1 if answer is None else 2)
    await stage.assert_nothing_left()
