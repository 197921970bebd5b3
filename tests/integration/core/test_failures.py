"""What becomes of a send whose request was not accepted, recorded once, by its owner only."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from integration.core.log_builder import (
    HOUR,
    LONG,
    NO_TIME,
    LogWorld,
    accepted,
    failed,
    failure_columns,
)

from sred_email_core.email_send_log.records import Claim, FailureAction, RecordedFailure

RETRY, RELEASE, REJECT, BURY, EXPIRE = FailureAction
DISSOLVING = (RELEASE, REJECT, EXPIRE)


# What becomes of it


async def test_a_retry_keeps_the_send_and_frees_its_lease(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    assert await world_of_log.fail(claim, RETRY, delay=HOUR) == dict.fromkeys(ids)
    send = await world_of_log.open_send(claim.send_id)
    assert (send["state"], send["lease_expires_at"], send["maybe_accepted"]) == ("OPEN", None, True)
    assert send["first_post_at"] is not None
    assert await world_of_log.members(claim.send_id) == ids
    for email_id in ids:
        row = await world_of_log.email(email_id)
        assert (row["status"], row["attempts"], row["generation"]) == ("RETRYING", 1, 1)
        assert (row["last_error"], row["ended_at"]) == ("what the provider said", None)
        assert row["message"] is not None
        assert timedelta(minutes=59) < row["next_attempt_at"] - datetime.now(UTC) < timedelta(minutes=61)
        assert await world_of_log.events(email_id) == ["ACCEPTED", "ATTEMPT_FAILED"]


async def test_a_release_dissolves_the_send_and_the_next_has_a_new_key(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    assert await world_of_log.fail(claim, RELEASE) == {email_id: None}
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    row = await world_of_log.email(email_id)
    assert (row["status"], row["attempts"], row["ended_at"], row["alone"]) == ("RETRYING", 0, None, False)
    assert row["next_attempt_at"] <= datetime.now(UTC)
    assert await world_of_log.events(email_id) == ["ACCEPTED", "POSTPONED"]
    again = await world_of_log.claimed(email_id)
    assert again == Claim(f"{email_id}.2", fence=again.fence, attempts=0)


async def test_hazard_18_the_emails_of_a_batch_that_was_refused_go_alone_from_then_on(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    await world_of_log.fail(await world_of_log.claimed(*ids), RELEASE, alone=True)
    assert [(await world_of_log.email(email_id))["alone"] for email_id in ids] == [True] * 3
    await world_of_log.fail(await world_of_log.claimed(ids[0]), RELEASE, alone=False)
    assert (await world_of_log.email(ids[0]))["alone"]


@pytest.mark.parametrize("action", [RETRY, BURY])
async def test_an_email_whose_send_stays_shares_its_request_as_before(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), action, alone=True)
    assert not (await world_of_log.email(email_id))["alone"]


async def test_a_rejection_dissolves_the_send_and_makes_dead_letters(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    letters = await world_of_log.fail(claim, REJECT)
    assert set(letters) == set(ids)
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    for email_id in ids:
        row = await world_of_log.email(email_id)
        assert (row["status"], row["attempts"], row["generation"]) == ("FAILED", 1, 2)
        assert row["next_attempt_at"] is None
        assert row["ended_at"] is not None
        assert row["message"] == b"message"
        letter = await world_of_log.letter(str(letters[email_id]))
        assert (str(letter["email_id"]), letter["reason"], letter["attempts"]) == (email_id, "REJECTED", 1)
        assert letter["error"] == "what the provider said"
        assert not letter["may_have_been_accepted"]
        assert letter["repeatable_until"] is letter["resolved_at"] is None
        assert await world_of_log.events(email_id) == ["ACCEPTED", "FAILED"]


async def test_a_burial_keeps_the_send_so_that_a_replay_can_repeat_it(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    letters = await world_of_log.fail(claim, BURY)
    send = await world_of_log.open_send(claim.send_id)
    assert (send["state"], send["maybe_accepted"], send["lease_expires_at"]) == ("DEAD", True, None)
    assert await world_of_log.members(claim.send_id) == ids
    for email_id in ids:
        row = await world_of_log.email(email_id)
        assert (row["status"], row["attempts"], row["generation"], row["message"]) == ("FAILED", 1, 1, b"message")
        letter = await world_of_log.letter(str(letters[email_id]))
        assert letter["reason"] == "ATTEMPTS_EXHAUSTED"
        assert letter["may_have_been_accepted"]
        assert letter["repeatable_until"] == send["first_post_at"] + LONG


async def test_an_expiry_dissolves_the_send_and_says_that_an_attempt_may_have_been_accepted(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    claim = await world_of_log.repeated(email_id)
    letters = await world_of_log.fail(claim, EXPIRE, error="an earlier attempt may have been accepted")
    assert letters == {email_id: None}
    row = await world_of_log.email(email_id)
    assert (row["status"], row["attempts"], row["generation"]) == ("EXPIRED", 1, 2)
    assert row["last_error"] == "an earlier attempt may have been accepted"
    assert row["message"] is row["next_attempt_at"] is None
    assert row["ended_at"] is not None
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    assert await world_of_log.count("email_dead_letters") == 0
    assert await world_of_log.events(email_id) == ["ACCEPTED", "ATTEMPT_FAILED", "EXPIRED"]


async def test_a_spent_key_is_remembered(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.fail(claim, BURY, reason="OUTCOME_UNKNOWN", key_spent=True)
    assert (await world_of_log.open_send(claim.send_id))["key_spent"]


async def test_a_wait_counts_no_attempt(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    for _ in range(3):
        await world_of_log.fail(claim, RETRY, counted=False)
        claim = await world_of_log.repeated(email_id)
    assert claim.attempts == 0
    assert (await world_of_log.email(email_id))["attempts"] == 0


async def test_a_failure_leaves_members_that_have_ended_meanwhile_as_they_are(world_of_log: LogWorld) -> None:
    expired, other = await world_of_log.accept(2)
    claim = await world_of_log.claimed(expired, other)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    letters = await world_of_log.fail(claim, BURY)
    assert letters == {expired: None, other: letters[other]}
    row = await world_of_log.email(expired)
    assert (row["status"], row["attempts"]) == ("EXPIRED", 0)
    assert await world_of_log.count("email_dead_letters") == 1


async def test_failures_of_many_sends_are_answered_in_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(6)
    claims = [await world_of_log.claimed(email_id) for email_id in ids]
    await world_of_log.log.record_answers([accepted(claims[1].send_id, ids[1])])
    actions = [RETRY, RETRY, RELEASE, REJECT, BURY, EXPIRE]
    answers = await world_of_log.log.record_failures(
        [failed(claim, action) for claim, action in zip(claims, actions, strict=True)]
    )
    assert [None if answer is None else (answer.action, list(answer.letters)) for answer in answers] == [
        (RETRY, [ids[0]]),
        None,
        (RELEASE, [ids[2]]),
        (REJECT, [ids[3]]),
        (BURY, [ids[4]]),
        (EXPIRE, [ids[5]]),
    ]
    statuses = [(await world_of_log.email(email_id))["status"] for email_id in ids]
    assert statuses == ["RETRYING", "SUCCESS", "RETRYING", "FAILED", "FAILED", "EXPIRED"]


# Whose it is, and how often


@pytest.mark.parametrize("action", FailureAction)
async def test_hazard_7_a_failure_under_an_old_fence_changes_nothing(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    (email_id,) = await world_of_log.accept()
    old = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
    before = await world_of_log.snapshot()
    assert await world_of_log.log.record_failures([failed(old, action)]) == [None]
    assert await world_of_log.snapshot() == before


async def test_hazard_7_a_failure_under_an_old_fence_is_not_told_what_a_newer_one_came_to(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    old = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    await world_of_log.fail(await world_of_log.repeated(email_id), BURY)
    assert await world_of_log.log.record_failures([failed(old, RETRY)]) == [None]


@pytest.mark.parametrize("first", DISSOLVING)
async def test_a_failure_of_a_send_that_is_gone_changes_nothing(world_of_log: LogWorld, first: FailureAction) -> None:
    claim = await world_of_log.claimed()
    await world_of_log.fail(claim, first)
    before = await world_of_log.snapshot()
    for action in FailureAction:
        assert await world_of_log.log.record_failures([failed(claim, action)]) == [None]
    assert await world_of_log.snapshot() == before


@pytest.mark.parametrize("refused", [False, True])
async def test_a_retry_that_is_told_again_is_answered_the_same_and_counts_once(
    world_of_log: LogWorld, refused: bool
) -> None:
    ids = await world_of_log.accept(2)
    await world_of_log.retrying(*ids)
    claim = await world_of_log.repeated(ids[0])
    first = await world_of_log.recorded(claim, RETRY, refused=refused)
    before = await world_of_log.snapshot()
    assert first == RecordedFailure(RETRY, dict.fromkeys(ids))
    assert await world_of_log.recorded(claim, RETRY, refused=refused) == first
    assert await world_of_log.snapshot() == before
    send = await world_of_log.open_send(claim.send_id)
    assert (send["requests_begun"], send["requests_refused"]) == (2, int(refused))
    assert [(await world_of_log.email(email_id))["attempts"] for email_id in ids] == [2, 2]


async def test_a_burial_that_is_told_again_is_answered_with_the_same_letters(world_of_log: LogWorld) -> None:
    expired, *ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(expired, *ids)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    first = await world_of_log.recorded(claim, BURY)
    before = await world_of_log.snapshot()
    assert first.action is BURY
    assert {email_id for email_id, letter in first.letters.items() if letter is not None} == set(ids)
    assert await world_of_log.recorded(claim, BURY) == first
    assert await world_of_log.snapshot() == before


@pytest.mark.parametrize("first", [RETRY, BURY])
async def test_what_was_recorded_can_not_become_something_else_without_a_new_claim(
    world_of_log: LogWorld, first: FailureAction
) -> None:
    claim = await world_of_log.claimed()
    recorded = await world_of_log.recorded(claim, first)
    before = await world_of_log.snapshot()
    for action in FailureAction:
        assert await world_of_log.recorded(claim, action) == recorded
    assert await world_of_log.snapshot() == before


async def test_a_dissolving_that_became_a_retry_is_told_so_again(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    claim = await world_of_log.repeated(email_id)
    for _ in range(2):
        assert await world_of_log.recorded(claim, REJECT) == RecordedFailure(RETRY, {email_id: None})
    assert (await world_of_log.open_send(claim.send_id))["requests_refused"] == 1


@pytest.mark.parametrize("action", FailureAction)
async def test_a_failure_that_is_recorded_twice_at_once_counts_once(
    world_of_log: LogWorld, action: FailureAction
) -> None:
    (email_id,) = await world_of_log.accept()
    failure = failed(await world_of_log.claimed(email_id), action, counted=True)
    async with world_of_log.uncommitted("record_failures", *failure_columns(failure)):
        recording = asyncio.create_task(world_of_log.log.record_failures([failure]))
        await world_of_log.until_blocked(recording)
    await recording
    assert (await world_of_log.email(email_id))["attempts"] == 1
    assert len(await world_of_log.events(email_id)) == 2
    assert await world_of_log.count("email_dead_letters") == int(action in {REJECT, BURY})


async def test_emails_are_locked_before_their_send_by_whoever_records_a_failure(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    async with world_of_log.uncommitted("lock_email", uuid.UUID(email_id)) as other:
        recording = asyncio.create_task(world_of_log.log.record_failures([failed(claim, RETRY)]))
        await world_of_log.until_blocked(recording)
        free = await other.connection.fetch("SELECT id FROM email_sends FOR UPDATE SKIP LOCKED")
    await recording
    assert len(free) == 1
