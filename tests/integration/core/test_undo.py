"""A claim whose POST was not begun is given back, as if it had not been made."""

import pytest
from integration.core.log_builder import (
    NO_TIME,
    LogWorld,
)

from sred_email_core.email_send_log.records import FailureAction, RepeatState

RETRY = FailureAction.RETRY
RELEASE = FailureAction.RELEASE


async def test_an_undone_claim_is_as_if_it_had_not_been_made(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(*ids)
    await world_of_log.log.undo_claims([claim])
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    rows = [await world_of_log.email(email_id) for email_id in ids]
    assert {(row["status"], row["attempts"], row["generation"]) for row in rows} == {("QUEUED", 0, 1)}


async def test_an_undone_claim_keeps_the_key_for_the_next(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.undo_claims([claim])
    assert (await world_of_log.claimed(email_id)).send_id == claim.send_id


async def test_an_undone_claim_of_an_email_that_was_tried_before_lets_it_be_retrying(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RELEASE, counted=True)
    await world_of_log.log.undo_claims([await world_of_log.claimed(email_id)])
    assert (await world_of_log.email(email_id))["status"] == "RETRYING"


@pytest.mark.parametrize("refused", [False, True])
async def test_an_undone_repeat_leaves_the_send_as_it_was(world_of_log: LogWorld, refused: bool) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id, refused=refused)
    before = await world_of_log.open_send(f"{email_id}.1")
    claim = await world_of_log.repeated(email_id)
    await world_of_log.log.undo_claims([claim])
    after = await world_of_log.open_send(claim.send_id)
    for name in ("state", "lease_expires_at", "requests_begun", "requests_refused", "owners", "first_post_at"):
        assert after[name] == before[name], name
    assert (await world_of_log.email(email_id))["status"] == "RETRYING"
    assert (await world_of_log.repeated(email_id)).fence > claim.fence


async def test_an_undone_claim_past_the_horizon_leaves_the_send_as_it_was(world_of_log: LogWorld) -> None:
    log = world_of_log.consumer(horizon=NO_TIME)
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id, log=log), RETRY, log=log)
    repeat = await world_of_log.repeat(email_id, log=log)
    assert repeat.state is RepeatState.PAST_HORIZON
    assert repeat.claim is not None
    await log.undo_claims([repeat.claim])
    send = await world_of_log.open_send(repeat.claim.send_id)
    assert (send["requests_begun"], send["maybe_accepted"], send["lease_expires_at"]) == (1, True, None)


async def test_hazard_7_a_claim_that_was_taken_over_can_not_be_undone(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
    before = await world_of_log.snapshot()
    await world_of_log.log.undo_claims([claim])
    assert await world_of_log.snapshot() == before


async def test_undoing_twice_is_the_same_as_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    claim = await world_of_log.repeated(email_id)
    await world_of_log.log.undo_claims([claim])
    before = await world_of_log.snapshot()
    await world_of_log.log.undo_claims([claim])
    assert await world_of_log.snapshot() == before


async def test_many_claims_are_undone_in_one_call(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(5)
    claims = [await world_of_log.claimed(email_id) for email_id in ids]
    await world_of_log.log.undo_claims(claims[:4])
    assert await world_of_log.count("email_sends") == 1
    assert await world_of_log.members(claims[4].send_id) == [ids[4]]


async def test_an_undo_that_is_repeated_leaves_the_next_claim_under_that_key_alone(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    undone = await world_of_log.claimed(email_id)
    await world_of_log.log.undo_claims([undone])
    other = world_of_log.consumer("other")
    claim = await world_of_log.claimed(email_id, log=other)
    assert claim.send_id == undone.send_id
    await world_of_log.log.undo_claims([undone])  # its answer had been lost
    assert (await world_of_log.open_send(claim.send_id))["owner"] == "other"
    assert await world_of_log.members(claim.send_id) == [email_id]
