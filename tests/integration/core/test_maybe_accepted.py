"""A send that may have been accepted is repeated, and in no way dissolved."""

from datetime import UTC, datetime, timedelta

import pytest
from integration.core.log_builder import (
    HOUR,
    NO_TIME,
    LogWorld,
)

from sred_email_core.email_send_log.records import FailureAction, RecordedFailure

RETRY = FailureAction.RETRY
RELEASE = FailureAction.RELEASE
REJECT = FailureAction.REJECT


async def test_a_refused_repeat_leaves_its_send_one_that_may_have_been_accepted(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    claim = await world_of_log.repeated(email_id)
    await world_of_log.fail(claim, RETRY, refused=True)
    send = await world_of_log.open_send(claim.send_id)
    assert (send["requests_begun"], send["requests_refused"], send["maybe_accepted"]) == (2, 1, True)
    assert send["first_post_at"] is not None
    assert (await world_of_log.repeated(email_id)).maybe_accepted_before


@pytest.mark.parametrize("action", [RELEASE, REJECT])
async def test_hazard_4_a_batch_is_never_dissolved_because_its_repeat_was_refused(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    ids = await world_of_log.accept(3)
    await world_of_log.retrying(*ids)
    claim = await world_of_log.repeated(ids[0])
    recorded = await world_of_log.recorded(claim, action, refused=True, delay=HOUR, alone=True)
    assert recorded == RecordedFailure(RETRY, dict.fromkeys(ids))
    send = await world_of_log.open_send(claim.send_id)
    assert (send["state"], send["maybe_accepted"], send["lease_expires_at"]) == ("OPEN", True, None)
    assert await world_of_log.members(claim.send_id) == ids
    assert await world_of_log.count("email_dead_letters") == 0
    for email_id in ids:
        row = await world_of_log.email(email_id)
        assert (row["status"], row["generation"], row["alone"], row["ended_at"]) == ("RETRYING", 1, False, None)
        assert row["next_attempt_at"] > datetime.now(UTC) + timedelta(minutes=59)


@pytest.mark.parametrize("action", [RELEASE, REJECT])
async def test_hazard_7_a_send_that_had_two_owners_is_never_dissolved(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id, log=world_of_log.consumer("old", lease=NO_TIME))
    claim = await world_of_log.repeated(email_id)
    await world_of_log.pool.execute("UPDATE email_sends SET requests_refused = 1")  # it still had two owners
    assert (await world_of_log.recorded(claim, action, refused=True)).action is RETRY
    send = await world_of_log.open_send(claim.send_id)
    assert (send["requests_begun"], send["requests_refused"], send["maybe_accepted"]) == (2, 2, True)


@pytest.mark.parametrize("action", [RELEASE, REJECT])
async def test_hazard_4_a_send_whose_request_has_no_definite_answer_is_never_dissolved(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    claim = await world_of_log.claimed()
    assert (await world_of_log.recorded(claim, action, refused=False)).action is RETRY
    assert (await world_of_log.open_send(claim.send_id))["maybe_accepted"]


async def test_when_every_request_was_refused_nothing_may_have_been_accepted(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    for _ in range(3):
        await world_of_log.fail(claim, RETRY, refused=True)
        send = await world_of_log.open_send(claim.send_id)
        assert (send["maybe_accepted"], send["first_post_at"]) == (False, None)
        claim = await world_of_log.repeated(email_id)
        assert not claim.maybe_accepted_before
        assert (await world_of_log.open_send(claim.send_id))["first_post_at"] is not None
    assert await world_of_log.fail(claim, RELEASE) == {email_id: None}


async def test_after_a_lease_ran_out_no_refusal_ever_clears_the_doubt(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    claim = await world_of_log.repeated(email_id)
    for _ in range(3):
        await world_of_log.fail(claim, RETRY, refused=True)
        send = await world_of_log.open_send(claim.send_id)
        assert send["maybe_accepted"]
        assert send["first_post_at"] is not None
        claim = await world_of_log.repeated(email_id)
        assert claim.maybe_accepted_before
