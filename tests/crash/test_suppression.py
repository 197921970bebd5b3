"""Who is suppressed gets no email; what may be out already is repeated as it was (hazard 27)."""

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crash.interleavings.stage import Consumer, Stage
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.email_send_log.webhook_events import WebhookEvent, WebhookLog
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_local.sandbox.rules import Action, Rule

ADA, BOB, EVE = "ada@example.com", "bob@example.com", "eve@example.com"


async def suppress(stage: Stage, *addresses: str, **fields: Any) -> None:
    log = SuppressionLog(stage.pool)
    for address in addresses:
        await log.suppress(address, "MANUAL", source="operator", **fields)
    await copy(stage).renew()


async def free(stage: Stage, address: str) -> None:
    assert await SuppressionLog(stage.pool).free(address)
    await copy(stage).renew()


def copy(stage: Stage) -> SuppressionCopy:
    return SuppressionCopy(SuppressionLog(stage.pool), ScriptRunner(stage.redis, stage.keys), stage.keys)


def sent(stage: Stage, subject: str) -> dict[str, Any]:
    """What the provider was given of the one email with this subject."""
    (email,) = (d.email for d in stage.sandbox.provider.mailbox if d.email.subject == subject)
    return {name: email.source.get(name) for name in ("to", "cc", "bcc")}


async def events(stage: Stage, email_id: str) -> list[str]:
    rows = await stage.pool.fetch(
        "SELECT what FROM email_events WHERE email_id = $1 ORDER BY sequence", uuid.UUID(email_id)
    )
    return [row["what"] for row in rows]


async def test_an_email_to_a_suppressed_address_ends_without_a_request(stage: Stage) -> None:
    await suppress(stage, ADA)
    email_id = await stage.accept_one("no", to=["Ada <ADA@Example.com>"], cc=[BOB])
    await stage.consumer().work()
    row = await stage.row(email_id)
    assert (row["status"], row["message"], row["attempts"]) == ("SUPPRESSED", None, 0)
    assert row["last_error"] == 'every recipient in "to" is suppressed'
    assert stage.requests == []
    assert await events(stage, email_id) == ["ACCEPTED", "SUPPRESSED"]
    await stage.assert_nothing_left()


async def test_hazard_27_suppressed_recipients_are_left_out_wherever_they_stand(stage: Stage) -> None:
    await suppress(stage, ADA, EVE)
    email_id = await stage.accept_one("some", to=[ADA, BOB], cc=[EVE, "carol@example.com"], bcc=[EVE])
    await stage.consumer().work()
    assert sent(stage, "some") == {"to": [BOB], "cc": ["carol@example.com"], "bcc": None}
    await stage.assert_sent_once(email_id, "some")


async def test_of_a_batch_only_those_go_that_have_a_recipient(stage: Stage) -> None:
    await suppress(stage, ADA)
    gone = await stage.accept_one("gone", to=[ADA])
    kept = await stage.accept("kept", "kept too", to=[BOB])
    await stage.consumer(consumer_slots=1).work()
    assert await stage.status(gone) == "SUPPRESSED"
    for email_id, subject in zip(kept, ("kept", "kept too"), strict=True):
        await stage.assert_sent_once(email_id, subject)
    await stage.assert_nothing_left()


@pytest.mark.parametrize("subjects", [("lone",), ("first", "second")])
async def test_hazard_27_a_repeat_leaves_out_whom_its_first_request_left_out(
    stage: Stage, subjects: tuple[str, ...]
) -> None:
    consumer = await _unknown(stage, subjects, to=[ADA, BOB], cc=[EVE], suppressed=[ADA, EVE])
    await free(stage, ADA)
    await stage.time_passes(60)
    await consumer.work()
    for subject in subjects:
        stage.assert_one_send(subject, requests=2)
        assert sent(stage, subject) == {"to": [BOB], "cc": None, "bcc": None}


@pytest.mark.parametrize("subjects", [("lone",), ("first", "second")])
async def test_hazard_27_a_send_that_may_be_out_is_repeated_whoever_is_suppressed_since(
    stage: Stage, subjects: tuple[str, ...]
) -> None:
    consumer = await _unknown(stage, subjects, to=[ADA])
    await suppress(stage, ADA)
    await stage.time_passes(60)
    await consumer.work()
    for subject in subjects:
        stage.assert_one_send(subject, requests=2)
    await stage.assert_nothing_left()


async def test_an_email_that_was_definitely_refused_is_looked_at_again(stage: Stage) -> None:
    consumer = stage.consumer()
    stage.rules(Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "0"}, times=1))
    email_id = await stage.accept_one("refused", to=[ADA])
    await consumer.take()
    await suppress(stage, ADA)
    await stage.time_passes(60)
    await consumer.work()
    assert await stage.status(email_id) == "SUPPRESSED"
    assert len(stage.requests) == 1
    await stage.assert_nothing_left()


async def test_a_suppression_that_has_expired_holds_up_nothing(stage: Stage) -> None:
    await suppress(stage, ADA, expires_at=datetime.now(UTC) - timedelta(seconds=1))
    email_id = await stage.accept_one("again", to=[ADA])
    await stage.consumer().work()
    await stage.assert_sent_once(email_id, "again")


@pytest.mark.parametrize("lost", ["all", "the entries"])
async def test_a_list_that_redis_has_forgotten_is_loaded_and_not_taken_for_nobody(stage: Stage, lost: str) -> None:
    await suppress(stage, ADA)
    email_id = await stage.accept_one("forgotten", to=[ADA])
    await stage.redis.delete(stage.keys.suppressed, *([stage.keys.suppressions] if lost == "all" else []))
    await stage.consumer().work()
    assert await stage.status(email_id) == "SUPPRESSED"
    assert stage.requests == []


async def test_the_reconciler_tells_redis_whom_the_log_suppresses(stage: Stage) -> None:
    await SuppressionLog(stage.pool).suppress(ADA, "MANUAL", source="operator")  # Redis was away
    await stage.reconcile()
    email_id = await stage.accept_one("told", to=[ADA])
    await stage.consumer().work()
    assert await stage.status(email_id) == "SUPPRESSED"


async def test_an_address_that_is_suppressed_between_look_and_request_gets_this_one(stage: Stage) -> None:
    """Nothing can fence the request itself: what is under way ends, and the next email is stopped."""
    consumer = stage.consumer()
    first = await stage.accept_one("first", to=[ADA])
    looked = consumer.process.stop_after("check_suppressions.lua")
    await consumer.begin()
    await looked.until_reached()
    await suppress(stage, ADA)
    looked.go_on()
    await consumer.settle()
    await stage.assert_sent_once(first, "first")
    second = await stage.accept_one("second", to=[ADA])
    await consumer.work()
    assert await stage.status(second) == "SUPPRESSED"


async def test_an_email_that_is_cancelled_while_it_is_suppressed_ends_once(stage: Stage) -> None:
    await suppress(stage, ADA)
    email_id = await stage.accept_one("cancelled", to=[ADA])
    consumer = stage.consumer()
    ending = consumer.process.stop_before("record_suppressed.sql")
    await consumer.begin()
    await ending.until_reached()
    await stage.cancel(email_id)
    ending.go_on()
    await consumer.settle()
    assert await events(stage, email_id) == ["ACCEPTED", "CANCELLED"]
    await stage.assert_nothing_left()


async def test_an_event_that_overtakes_the_answer_closes_the_email_and_the_answer_changes_nothing(stage: Stage) -> None:
    email_id = await stage.accept_one("overtaken")
    consumer = stage.consumer()
    answered = consumer.process.stop_before("record_answers.sql")
    await consumer.begin()
    await answered.until_reached()
    await _tell(stage, email_id, "DELIVERED")
    answered.go_on()
    await consumer.settle()
    row = await stage.row(email_id)
    assert (row["status"], row["delivery"], row["attempts"]) == ("SUCCESS", "DELIVERED", 1)
    assert await events(stage, email_id) == ["ACCEPTED", "DELIVERED"]
    assert stage.deliveries("overtaken") == 1
    await stage.assert_nothing_left()


async def test_an_event_of_an_email_whose_answer_was_lost_ends_its_repeats(stage: Stage) -> None:
    consumer = await _unknown(stage, ("lost",), to=[ADA])
    (email_id,) = [str(row["id"]) for row in await stage.pool.fetch("SELECT id FROM email_send_log")]
    await _tell(stage, email_id, "SENT")
    await stage.time_passes(60)  # Redis was not told: the repeat is taken, and finds nothing
    await consumer.work()
    assert len(stage.requests) == 1
    await stage.assert_nothing_left()


async def test_an_event_of_one_email_of_a_batch_leaves_the_others_to_their_repeat(stage: Stage) -> None:
    consumer = await _unknown(stage, ("first", "second"), to=[ADA])
    first, second = [str(r["id"]) for r in await stage.pool.fetch("SELECT id FROM email_send_log ORDER BY id")]
    await _tell(stage, first, "BOUNCED")
    stage.rules(Rule(status=422, name="validation_error", times=1))
    for _ in range(2):  # the refusal of a repeat dissolves nothing
        await stage.time_passes(60)
        await consumer.work()
    assert await stage.status(second) in {"SUCCESS", "RETRYING", "FAILED"}
    for subject in ("first", "second"):
        assert len({(r.idempotency_key, r.body_sha256) for r in stage.requests_about(subject)}) == 1
        assert stage.deliveries(subject) == 1
    assert (await stage.row(first))["delivery"] == "BOUNCED"


async def _unknown(
    stage: Stage,
    subjects: tuple[str, ...],
    *,
    to: list[str],
    cc: list[str] | None = None,
    suppressed: list[str] | None = None,
) -> Consumer:
    """Emails of one request that the provider took, and whose answer was lost."""
    await suppress(stage, *(suppressed or []))
    await stage.accept(*subjects, to=to, cc=cc or [])
    consumer = stage.consumer(consumer_slots=1)
    stage.rules(Rule(action=Action.ACCEPT_THEN_RESET, times=1))
    await consumer.take()
    assert len(stage.requests) == 1
    return consumer


async def _tell(stage: Stage, email_id: str, delivery: str) -> None:
    log = WebhookLog(stage.pool)
    await log.store([WebhookEvent(f"msg-{uuid.uuid4()}", delivery, uuid.UUID(email_id), "provider-id")])
    assert (await log.work(size=10)).taken == 1
