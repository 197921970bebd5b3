"""The log first, Redis second: until an outcome is recorded, nothing of it is to be seen in Redis."""

from dataclasses import replace

import pytest

from crash.interleavings.stage import Stage
from crash.interleavings.steps import Trap
from sred_email_local.sandbox.rules import Action, Rule

OUTCOMES = {
    "accepted": (None, "record_answers.sql"),
    "no answer": (Rule(action=Action.ACCEPT_THEN_RESET, times=1), "record_failures.sql"),
    "429": (Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "1"}, times=1), "record_failures.sql"),
    "409": (Rule(status=409, name="invalid_idempotent_request", times=1), "record_failures.sql"),
}


async def pending(stage: Stage) -> int:
    """Entries that a consumer has taken and not finished."""
    return sum([(await stage.redis.xpending(stream, "email-consumers"))["pending"] for stream in stage.keys.streams])


@pytest.mark.parametrize("emails", [1, 3], ids=["alone", "batch"])
@pytest.mark.parametrize("outcome", OUTCOMES)
async def test_hazard_3_no_entry_leaves_its_stream_before_the_outcome_is_recorded(
    stage: Stage, outcome: str, emails: int
) -> None:
    rule, record = OUTCOMES[outcome]
    stage.rules(*([] if rule is None else [replace(rule)]))
    consumer = stage.consumer(consumer_slots=1)
    await stage.accept(*(f"recorded {n}" for n in range(emails)))
    about_to_record: Trap = consumer.process.stop_before(record)
    await consumer.begin()
    await about_to_record.until_reached()
    assert await pending(stage) == emails
    about_to_record.go_on()
    await consumer.settle()
    assert await pending(stage) == 0
