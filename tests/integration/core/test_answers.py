"""What a 200 said is recorded, whoever learned it, and wins over everything else."""

import asyncio
import uuid
from datetime import UTC, datetime

import pytest
from integration.core.log_builder import (
    NO_TIME,
    LogWorld,
    accepted,
    answer_columns,
    failed,
    failure_columns,
)

from sred_email_core.email_send_log.records import AcceptedEmail, AnsweredSend, FailureAction

RETRY = FailureAction.RETRY
BURY = FailureAction.BURY
EXPIRE = FailureAction.EXPIRE


async def test_an_accepted_email_ends_as_success_and_nothing_of_its_send_is_left(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    answer = AnsweredSend(claim.send_id, (AcceptedEmail(email_id, "m-1"),))
    assert await world_of_log.log.record_answers([answer]) == {}
    row = await world_of_log.email(email_id)
    assert (row["status"], row["attempts"], row["provider_message_id"], row["delivery"]) == (
        "SUCCESS",
        1,
        "m-1",
        "SENT",
    )
    assert row["message"] is row["last_error"] is row["next_attempt_at"] is None
    assert row["sent_at"] == row["ended_at"] is not None
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    assert await world_of_log.events(email_id) == ["ACCEPTED", "SENT"]


async def test_recording_an_answer_again_changes_nothing(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(*ids)
    answer = accepted(claim.send_id, *ids[:2], refused=ids[2:])
    await world_of_log.log.record_answers([answer])
    before = await world_of_log.snapshot()
    assert await world_of_log.log.record_answers([answer]) == {}
    other = AnsweredSend(claim.send_id, (AcceptedEmail(ids[0], "another id"),))
    assert await world_of_log.log.record_answers([other]) == {}
    assert await world_of_log.snapshot() == before


async def test_hazard_18_an_answer_told_again_does_not_touch_the_next_send_of_a_refused_email(
    world_of_log: LogWorld,
) -> None:
    one, refused = await world_of_log.accept(2)
    claim = await world_of_log.claimed(one, refused)
    answer = accepted(claim.send_id, one, refused=[refused])
    await world_of_log.log.record_answers([answer])
    next_claim = await world_of_log.claimed(refused)
    before = await world_of_log.snapshot()
    await world_of_log.log.record_answers([answer])
    assert await world_of_log.snapshot() == before
    assert await world_of_log.members(next_claim.send_id) == [refused]


async def test_an_answer_that_is_recorded_by_many_at_once_counts_once(world_of_log: LogWorld) -> None:
    one, refused = await world_of_log.accept(2)
    claim = await world_of_log.claimed(one, refused)
    answer = accepted(claim.send_id, one, refused=[refused])
    await asyncio.gather(*(world_of_log.log.record_answers([answer]) for _ in range(10)))
    assert [(await world_of_log.email(email_id))["attempts"] for email_id in (one, refused)] == [1, 1]
    assert (await world_of_log.email(refused))["generation"] == 2
    assert await world_of_log.events(one) == ["ACCEPTED", "SENT"]
    assert await world_of_log.events(refused) == ["ACCEPTED", "ATTEMPT_FAILED"]


async def test_an_acceptance_told_twice_in_one_call_counts_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id, email_id)])
    assert (await world_of_log.email(email_id))["attempts"] == 1
    assert await world_of_log.events(email_id) == ["ACCEPTED", "SENT"]


async def test_two_owners_that_record_a_send_at_the_same_time_leave_nothing_of_it(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    answer = accepted(claim.send_id, *ids)
    async with world_of_log.uncommitted("record_answers", *answer_columns(answer)):
        recording = asyncio.create_task(world_of_log.log.record_answers([answer]))
        await world_of_log.until_blocked(recording)
    assert await recording == {}
    assert await world_of_log.count("email_send_members") == 0
    assert await world_of_log.count("email_sends") == 0
    assert [(await world_of_log.email(email_id))["attempts"] for email_id in ids] == [1, 1]


async def test_many_sends_are_recorded_in_one_call(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(7)
    batch, lone = await world_of_log.claimed(*ids[:4]), await world_of_log.claimed(ids[4])
    answers = [accepted(batch.send_id, *ids[:3], refused=[ids[3]]), accepted(lone.send_id, ids[4])]
    await world_of_log.log.record_answers(answers)
    assert await world_of_log.count("email_sends") == 0
    statuses = [(await world_of_log.email(email_id))["status"] for email_id in ids]
    assert statuses == ["SUCCESS"] * 3 + ["RETRYING", "SUCCESS"] + ["QUEUED"] * 2


async def test_what_a_webhook_has_told_already_is_not_overwritten(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.change(email_id, "delivery = 'BOUNCED'")
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    assert (await world_of_log.email(email_id))["delivery"] == "BOUNCED"


async def test_an_answer_about_an_email_that_is_unknown_is_nothing(world_of_log: LogWorld) -> None:
    unknown = str(uuid.uuid4())
    assert await world_of_log.log.record_answers([accepted("unknown", unknown, refused=[unknown])]) == {}


# What was refused within a batch that was accepted


async def test_hazard_18_an_email_refused_within_a_batch_leaves_its_send_and_goes_alone_under_a_new_key(
    world_of_log: LogWorld,
) -> None:
    one, refused, other = await world_of_log.accept(3)
    claim = await world_of_log.claimed(one, refused, other)
    await world_of_log.log.record_answers([accepted(claim.send_id, one, other, refused=[refused])])
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    row = await world_of_log.email(refused)
    assert (row["status"], row["attempts"], row["generation"], row["alone"]) == ("RETRYING", 1, 2, True)
    assert (row["last_error"], row["ended_at"], row["message"]) == ("no such address", None, b"message")
    assert row["next_attempt_at"] <= datetime.now(UTC)
    assert await world_of_log.events(refused) == ["ACCEPTED", "ATTEMPT_FAILED"]
    for email_id in (one, other):
        sent = await world_of_log.email(email_id)
        assert (sent["status"], sent["alone"], sent["last_error"]) == ("SUCCESS", False, None)
    again = await world_of_log.claimed(refused)
    assert again.send_id == f"{refused}.2"
    assert not again.maybe_accepted_before


async def test_hazard_18_a_batch_of_which_every_email_was_refused_leaves_nothing_of_its_send(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(*ids)
    await world_of_log.log.record_answers([accepted(claim.send_id, refused=ids)])
    assert await world_of_log.count("email_sends") == 0
    assert {(await world_of_log.email(email_id))["status"] for email_id in ids} == {"RETRYING"}


async def test_a_refused_email_that_has_ended_meanwhile_stays_as_it_ended(world_of_log: LogWorld) -> None:
    one, refused = await world_of_log.accept(2)
    claim = await world_of_log.claimed(one, refused)
    await world_of_log.change(refused, "status = 'CANCELLED', ended_at = now()")
    await world_of_log.log.record_answers([accepted(claim.send_id, one, refused=[refused])])
    row = await world_of_log.email(refused)
    assert (row["status"], row["next_attempt_at"]) == ("CANCELLED", None)


async def test_a_late_answer_that_refuses_a_dead_letters_email_says_that_it_was_certainly_not_sent(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    letters = await world_of_log.fail(claim, BURY)
    resolved = await world_of_log.log.record_answers([accepted(claim.send_id, ids[0], refused=[ids[1]])])
    assert resolved == {ids[0]: letters[ids[0]]}
    letter = await world_of_log.letter(str(letters[ids[1]]))
    assert letter["resolved_at"] is None
    assert (letter["may_have_been_accepted"], letter["repeatable_until"]) == (False, None)
    row = await world_of_log.email(ids[1])
    assert (row["status"], row["generation"], row["alone"]) == ("FAILED", 2, True)
    assert row["ended_at"] is not None
    assert await world_of_log.count("email_send_members") == 0


# Late, and all the same


async def test_hazard_7_a_200_that_a_late_owner_learns_is_recorded_all_the_same(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    late = world_of_log.consumer("late", lease=NO_TIME)
    claim = await world_of_log.claimed(email_id, log=late)
    await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
    await late.record_answers([accepted(claim.send_id, email_id)])
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"
    assert await world_of_log.count("email_sends") == 0


async def test_a_late_200_resolves_the_dead_letter_of_its_email_and_tells_it(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    letters = await world_of_log.fail(claim, BURY)
    assert (await world_of_log.open_send(claim.send_id))["state"] == "DEAD"
    resolved = await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    assert resolved == letters
    letter = await world_of_log.letter(resolved[email_id])
    assert letter["resolution"] == "DELIVERED"
    assert letter["resolved_at"] is not None
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.log.record_answers([accepted(claim.send_id, email_id)]) == {}


async def test_a_late_200_ends_an_email_that_was_replayed_meanwhile(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    letters = await world_of_log.fail(claim, BURY)
    replayed = await world_of_log.letters.replay(
        [uuid.UUID(letters[email_id])], include_outcome_unknown=False, include_poison=False
    )
    assert len(replayed) == 1
    assert await world_of_log.log.record_answers([accepted(claim.send_id, email_id)]) == {}
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"
    assert await world_of_log.count("email_sends") == 0


async def test_a_late_200_wins_over_the_expiry_that_ended_its_send(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.retrying(email_id)
    await world_of_log.fail(await world_of_log.repeated(email_id), EXPIRE)
    assert (await world_of_log.email(email_id))["status"] == "EXPIRED"
    assert await world_of_log.log.record_answers([accepted(claim.send_id, email_id)]) == {}
    row = await world_of_log.email(email_id)
    assert (row["status"], row["last_error"]) == ("SUCCESS", None)
    assert await world_of_log.events(email_id) == ["ACCEPTED", "ATTEMPT_FAILED", "EXPIRED", "SENT"]


@pytest.mark.parametrize("status", ["EXPIRED", "CANCELLED", "SUPPRESSED", "FAILED"])
async def test_a_200_wins_over_every_other_end(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.change(email_id, f"status = '{status}', ended_at = now() - interval '1 hour'")
    await world_of_log.log.record_answers([accepted(claim.send_id, email_id)])
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"


async def test_a_burial_that_is_committed_while_an_answer_waits_for_its_lock_leaves_no_open_letter(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(*ids)
    async with world_of_log.uncommitted("record_failures", *failure_columns(failed(claim, BURY))) as burial:
        recording = asyncio.create_task(world_of_log.log.record_answers([accepted(claim.send_id, *ids)]))
        await world_of_log.until_blocked(recording)
        letters = {str(row["email_id"]): str(row["dead_letter_id"]) for row in burial.rows}
    assert await recording == letters
    assert await world_of_log.letters.count() == 0
    assert {(await world_of_log.email(email_id))["status"] for email_id in ids} == {"SUCCESS"}
    assert {(await world_of_log.letter(letter))["resolution"] for letter in letters.values()} == {"DELIVERED"}
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0


async def test_a_burial_that_waits_for_an_answer_buries_nothing(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    answer = accepted(claim.send_id, ids[0], refused=[ids[1]])
    async with world_of_log.uncommitted("record_answers", *answer_columns(answer)):
        burying = asyncio.create_task(world_of_log.log.record_failures([failed(claim, BURY)]))
        await world_of_log.until_blocked(burying)
    assert await burying == [None]
    assert await world_of_log.count("email_dead_letters") == 0
    assert [(await world_of_log.email(email_id))["status"] for email_id in ids] == ["SUCCESS", "RETRYING"]
    assert await world_of_log.events(ids[1]) == ["ACCEPTED", "ATTEMPT_FAILED"]


async def test_answers_and_failures_of_the_same_sends_settle_and_the_answers_win(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(200)
    batches = [ids[start : start + 20] for start in range(0, 200, 20)]
    claims = [await world_of_log.claimed(*batch) for batch in batches]
    answers = [accepted(claim.send_id, *batch) for claim, batch in zip(claims, batches, strict=True)]
    failures = [failed(claim, action) for claim, action in zip(claims, [RETRY, BURY] * 5, strict=True)]
    async with asyncio.timeout(30):
        await asyncio.gather(
            world_of_log.log.record_failures(failures),
            world_of_log.log.record_answers(answers),
            world_of_log.log.record_failures(failures[::-1]),
            world_of_log.log.record_answers(answers[::-1]),
        )
    assert {(await world_of_log.email(email_id))["status"] for email_id in ids} == {"SUCCESS"}
    assert await world_of_log.letters.count() == 0
    assert await world_of_log.count("email_sends") == 0
