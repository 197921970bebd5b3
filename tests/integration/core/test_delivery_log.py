"""Claims before a POST and records after it, on a real PostgreSQL."""

import asyncio
import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from integration.core.log_builder import (
    BATCH,
    BODY,
    LEASE,
    LONG,
    NO_TIME,
    LogWorld,
    accepted,
    claims_of,
    failed,
    refusals_of,
    send_of,
)

from sred_email_core.email_send_log.records import (
    AcceptedEmail,
    Claim,
    FailureAction,
    MalformedEntry,
    NewSend,
    RepeatState,
    SendShape,
)
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port

RETRY, RELEASE, REJECT, BURY = FailureAction

# Claims


async def test_a_lone_email_is_claimed_under_a_key_of_its_id_and_generation(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    assert claim == Claim(send_id=f"{email_id}.1", fence=claim.fence, attempts=0)
    assert not claim.maybe_accepted_before
    send = await world_of_log.open_send(claim.send_id)
    assert (send["state"], send["owner"], send["fence"], send["owners"]) == ("OPEN", "me", claim.fence, 1)
    assert (send["requests_begun"], send["requests_refused"], send["maybe_accepted"]) == (1, 0, True)
    assert send["first_post_at"] is not None
    assert send["lease_expires_at"] - send["first_post_at"] == LEASE
    assert await world_of_log.members(claim.send_id) == [email_id]
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


async def test_a_send_remembers_everything_that_shapes_its_body(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    shape = SendShape("/emails/batch", 7, "staging@example.com", b"\x00headers")
    (claim,) = await world_of_log.log.claim([NewSend((email_id,), shape, BODY, "key")])
    assert isinstance(claim, Claim)
    await world_of_log.log.record_failures([failed(claim, RETRY)])
    repeat = await world_of_log.repeat(email_id)
    assert (repeat.shape, repeat.body_sha256) == (shape, BODY)


async def test_a_batch_is_claimed_under_its_own_key_in_its_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(20)
    random.shuffle(ids)
    (claim,) = await world_of_log.log.claim([send_of(*ids, send_id="batch")])
    assert isinstance(claim, Claim)
    assert claim == Claim(send_id="batch", fence=claim.fence, attempts=0)
    assert await world_of_log.members("batch") == ids


async def test_many_sends_are_claimed_in_one_call_and_answered_in_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(9)
    await world_of_log.log.record_accepted(accepted("none", ids[4]))
    sends = [send_of(ids[0]), send_of(*ids[1:4]), send_of(ids[4]), send_of(*ids[5:8]), send_of(ids[8])]
    answers = await world_of_log.log.claim(sends)
    keys = [answer.send_id if isinstance(answer, Claim) else None for answer in answers]
    assert keys == [f"{ids[0]}.1", sends[1].send_id, None, sends[3].send_id, f"{ids[8]}.1"]


async def test_a_claim_tells_the_attempts_of_the_email_with_the_most(world_of_log: LogWorld) -> None:
    one, other = await world_of_log.accept(2)
    await world_of_log.change(other, "attempts = 5")
    assert (await world_of_log.claimed(one, other)).attempts == 5


async def test_a_send_is_claimed_wholly_or_not_at_all(world_of_log: LogWorld) -> None:
    free, held, also_free = await world_of_log.accept(3)
    await world_of_log.claimed(held)
    before = await world_of_log.snapshot()
    (refusals,) = await world_of_log.log.claim([send_of(free, held, also_free)])
    assert isinstance(refusals, dict)
    assert list(refusals) == [held]
    assert refusals[held].status == "SENDING"
    assert not refusals[held].ended
    assert refusals[held].first_of_open_send == held
    assert LEASE - timedelta(seconds=30) < refusals[held].lease_left <= LEASE
    assert await world_of_log.snapshot() == before


async def test_a_refused_send_fails_none_of_its_neighbours(world_of_log: LogWorld) -> None:
    one, two = await world_of_log.accept(2)
    unknown = str(uuid.uuid4())
    answers = await world_of_log.log.claim([send_of(one), send_of(unknown), send_of(two)])
    assert [type(answer) for answer in answers] == [Claim, dict, Claim]


async def test_an_email_that_is_in_a_send_is_told_with_the_first_of_that_send(world_of_log: LogWorld) -> None:
    first, second = await world_of_log.accept(2)
    claim = await world_of_log.claimed(first, second)
    await world_of_log.fail(claim, RETRY)
    (refusals,) = await world_of_log.log.claim([send_of(second)])
    assert isinstance(refusals, dict)
    assert timedelta(minutes=59) < refusals[second].lease_left <= timedelta(hours=1)  # its retry is due then
    assert refusals[second].status == "RETRYING"


async def test_an_email_that_does_not_exist_is_refused(world_of_log: LogWorld) -> None:
    unknown = str(uuid.uuid4())
    (refusals,) = await world_of_log.log.claim([send_of(unknown)])
    assert isinstance(refusals, dict)
    assert (refusals[unknown].status, refusals[unknown].ended) == (None, False)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED", "CANCELLED", "EXPIRED", "SUPPRESSED"])
async def test_an_email_that_has_ended_is_refused(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}', ended_at = now()")
    (refusals,) = await world_of_log.log.claim([send_of(email_id)])
    assert isinstance(refusals, dict)
    assert (refusals[email_id].status, refusals[email_id].ended) == (status, True)


async def test_an_email_that_has_expired_is_refused_and_said_to_have(world_of_log: LogWorld) -> None:
    late, timely = await world_of_log.accept(2)
    await world_of_log.change(late, "expire_at = now() - interval '1 second'")
    await world_of_log.change(timely, "expire_at = now() + interval '1 hour'")
    answers = await world_of_log.log.claim([send_of(late), send_of(timely)])
    assert isinstance(answers[0], dict)
    assert answers[0][late].expired
    assert not answers[0][late].ended
    assert isinstance(answers[1], Claim)


@pytest.mark.parametrize("status", ["QUEUED", "SCHEDULED", "RETRYING"])
async def test_an_email_that_waits_is_free(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}'")
    await world_of_log.claimed(email_id)


async def test_one_email_in_two_sends_of_one_call_is_claimed_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with asyncio.timeout(2):
        answers = await world_of_log.log.claim([send_of(email_id), send_of(email_id)])
    assert len(claims_of(answers)) == 1
    assert [list(refusals) for refusals in refusals_of(answers)] == [[email_id]]


async def test_two_sends_with_one_key_do_not_go_on_for_ever(world_of_log: LogWorld) -> None:
    one, other = await world_of_log.accept(2)
    await world_of_log.log.claim([send_of(one, send_id="same")])
    async with asyncio.timeout(2):
        with pytest.raises(LogUnavailableError):
            await world_of_log.log.claim([send_of(other, send_id="same")])


async def test_an_email_is_never_in_two_open_sends_however_many_claim_it_at_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    logs = [world_of_log.consumer(f"c{n}") for n in range(20)]
    answers = await asyncio.gather(*(log.claim([send_of(email_id)]) for log in logs))
    assert len(claims_of([answer for (answer,) in answers])) == 1
    assert await world_of_log.count("email_sends") == 1
    assert await world_of_log.count("email_send_members") == 1


async def test_batches_that_overlap_are_claimed_wholly_or_not_at_all_and_without_deadlock(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(30)

    async def claim_some() -> list[Claim]:
        chosen = random.sample(ids, 5)
        return claims_of(await world_of_log.log.claim([send_of(*chosen)]))

    async with asyncio.timeout(20):
        claims = [claim for claims in await asyncio.gather(*(claim_some() for _ in range(20))) for claim in claims]
    assert 1 <= len(claims) <= 6
    members = [await world_of_log.members(claim.send_id) for claim in claims]
    assert [len(m) for m in members] == [5] * len(claims)
    assert len({email_id for m in members for email_id in m}) == 5 * len(claims)
    assert await world_of_log.count("email_sends") == len(claims)


async def test_claims_and_records_and_repeats_of_the_same_emails_settle_without_loss(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(10)

    async def work(number: int) -> None:
        log = world_of_log.consumer(f"c{number}", lease=NO_TIME)
        for _ in range(6):
            email_id = random.choice(ids)  # noqa: S311 - a test
            (claim,) = await log.claim([send_of(email_id)])
            if not isinstance(claim, Claim):
                (repeat,) = await log.claim_repeats([email_id])
                if repeat.claim is None:
                    continue
                claim = repeat.claim
            if number % 2:
                await log.record_failures([failed(claim, RETRY, delay=NO_TIME)])
            else:
                await log.record_accepted(accepted(claim.send_id, email_id))

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(number) for number in range(12)))
    odd = "SELECT count(*) FROM email_send_log WHERE (status = 'SUCCESS') <> (ended_at IS NOT NULL)"
    assert await world_of_log.pool.fetchval(odd) == 0
    left = (
        "SELECT count(*) FROM email_send_members m JOIN email_send_log e ON e.id = m.email_id"
        " WHERE e.ended_at IS NOT NULL"
    )
    assert await world_of_log.pool.fetchval(left) == 0


# Repeats


async def test_an_email_without_an_open_send_has_nothing_to_repeat(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    assert (await world_of_log.repeat(email_id)).state is RepeatState.GONE
    assert (await world_of_log.repeat(str(uuid.uuid4()))).state is RepeatState.GONE
    await world_of_log.buried(email_id)
    assert (await world_of_log.repeat(email_id)).state is RepeatState.GONE


async def test_a_send_whose_lease_is_held_is_left_to_its_owner(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id)
    before = await world_of_log.snapshot()
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert (repeat.state, repeat.claim) == (RepeatState.LEASED, None)
    assert await world_of_log.snapshot() == before


async def test_a_send_that_waits_is_taken_over_with_a_new_fence(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert repeat.state is RepeatState.CLAIMED
    assert repeat.claim is not None
    assert repeat.claim == Claim(
        f"{email_id}.1", fence=repeat.claim.fence, attempts=1, requests_begun=2, requests_refused=0, owners=1
    )
    assert repeat.claim.maybe_accepted_before
    send = await world_of_log.open_send(f"{email_id}.1")
    assert (send["owner"], send["owners"], send["requests_begun"]) == ("other", 1, 2)
    assert send["lease_expires_at"] > datetime.now(UTC)
    (member,) = repeat.members
    assert (member.email_id, member.kind, member.priority, member.attempts) == (email_id, "WELCOME", "HIGH", 1)
    assert member.message == b"message"
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


async def test_a_send_is_found_by_any_of_its_emails_and_comes_whole_and_in_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(5)
    random.shuffle(ids)
    await world_of_log.fail(await world_of_log.claimed(*ids), RETRY)
    repeat = await world_of_log.repeat(ids[3])
    assert [member.email_id for member in repeat.members] == ids
    assert repeat.shape == BATCH


async def test_each_email_asked_for_gets_its_own_answer(world_of_log: LogWorld) -> None:
    waiting, leased, queued = await world_of_log.accept(3)
    await world_of_log.fail(await world_of_log.claimed(waiting), RETRY)
    await world_of_log.claimed(leased)
    repeats = await world_of_log.log.claim_repeats([queued, leased, waiting])
    assert [r.state for r in repeats] == [RepeatState.GONE, RepeatState.LEASED, RepeatState.CLAIMED]


async def test_two_emails_of_one_send_get_the_same_claim(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    await world_of_log.fail(await world_of_log.claimed(*ids), RETRY)
    one, other = await world_of_log.log.claim_repeats(ids)
    assert one == other
    assert one.claim is not None


async def test_a_send_whose_lease_ran_out_has_one_owner_more(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert repeat.state is RepeatState.CLAIMED
    send = await world_of_log.open_send(claim.send_id)
    assert (send["owners"], send["maybe_accepted"]) == (2, True)
    assert repeat.claim is not None
    assert repeat.claim.maybe_accepted_before


async def test_consumers_that_race_for_a_repeat_get_it_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
    logs = [world_of_log.consumer(f"c{n}") for n in range(20)]
    repeats = await asyncio.gather(*(world_of_log.repeat(email_id, log=log) for log in logs))
    states = [repeat.state for repeat in repeats]
    assert states.count(RepeatState.CLAIMED) == 1
    assert states.count(RepeatState.LEASED) == 19
    assert (await world_of_log.open_send(f"{email_id}.1"))["requests_begun"] == 2


async def test_what_may_have_been_accepted_too_long_ago_is_past_its_horizon(world_of_log: LogWorld) -> None:
    log = world_of_log.consumer(horizon=NO_TIME)
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id, log=log), RETRY, log=log)
    repeat = await world_of_log.repeat(email_id, log=log)
    assert repeat.state is RepeatState.PAST_HORIZON
    assert repeat.claim is not None
    assert repeat.claim.requests_begun == 2
    # Nothing is posted under this claim, so it is recorded as refused: the first request stays what may be accepted.
    letters = await world_of_log.fail(
        repeat.claim, BURY, log=log, reason="OUTCOME_UNKNOWN", counted=False, refused=True
    )
    letter = await world_of_log.letter(str(letters[email_id]))
    assert letter["may_have_been_accepted"]


async def test_the_horizon_does_not_bind_what_was_certainly_refused(world_of_log: LogWorld) -> None:
    log = world_of_log.consumer(horizon=NO_TIME)
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id, log=log)
    await world_of_log.fail(claim, RETRY, log=log, refused=True)
    assert (await world_of_log.repeat(email_id, log=log)).state is RepeatState.CLAIMED


async def test_the_horizon_runs_from_the_first_post_whatever_is_repeated(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    first = (await world_of_log.open_send(claim.send_id))["first_post_at"]
    for _ in range(3):
        await world_of_log.fail(claim, RETRY)
        claim = await world_of_log.repeated(email_id)
    assert (await world_of_log.open_send(claim.send_id))["first_post_at"] == first


async def test_a_member_that_has_ended_is_repeated_with_the_rest_and_stays_ended(world_of_log: LogWorld) -> None:
    expired, other = await world_of_log.accept(2)
    await world_of_log.fail(await world_of_log.claimed(expired, other), RETRY)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    repeat = await world_of_log.repeat(other)
    assert [(member.email_id, member.status) for member in repeat.members] == [
        (expired, "EXPIRED"),
        (other, "SENDING"),
    ]
    assert (await world_of_log.email(expired))["status"] == "EXPIRED"


# Undoing claims


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


async def test_an_undone_repeat_leaves_the_send_as_it_was(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
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


async def test_a_claim_that_was_taken_over_can_not_be_undone(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
    before = await world_of_log.snapshot()
    await world_of_log.log.undo_claims([claim])
    assert await world_of_log.snapshot() == before


async def test_undoing_twice_is_the_same_as_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
    claim = await world_of_log.repeated(email_id)
    await world_of_log.log.undo_claims([claim])
    before = await world_of_log.snapshot()
    await world_of_log.log.undo_claims([claim])
    assert await world_of_log.snapshot() == before


async def test_many_claims_are_undone_in_one_call(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(5)
    claims = claims_of(await world_of_log.log.claim([send_of(email_id) for email_id in ids]))
    await world_of_log.log.undo_claims(claims[:4])
    assert await world_of_log.count("email_sends") == 1
    assert await world_of_log.members(claims[4].send_id) == [ids[4]]


# What was accepted


async def test_an_accepted_email_ends_as_success_and_nothing_of_its_send_is_left(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    assert await world_of_log.log.record_accepted([AcceptedEmail(email_id, "m-1", claim.send_id)]) == {}
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


async def test_recording_an_acceptance_again_changes_nothing(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.record_accepted(accepted(claim.send_id, email_id))
    before = await world_of_log.snapshot()
    await world_of_log.log.record_accepted(accepted(claim.send_id, email_id))
    await world_of_log.log.record_accepted([AcceptedEmail(email_id, "another id", claim.send_id)])
    assert await world_of_log.snapshot() == before


async def test_an_acceptance_that_is_recorded_by_many_at_once_counts_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    records = (world_of_log.log.record_accepted(accepted(claim.send_id, email_id)) for _ in range(10))
    await asyncio.gather(*records)
    assert (await world_of_log.email(email_id))["attempts"] == 1
    assert await world_of_log.events(email_id) == ["ACCEPTED", "SENT"]


async def test_an_acceptance_told_twice_in_one_call_counts_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.record_accepted(accepted(claim.send_id, email_id, email_id))
    assert (await world_of_log.email(email_id))["attempts"] == 1
    assert await world_of_log.events(email_id) == ["ACCEPTED", "SENT"]


async def test_members_that_were_not_accepted_stay_in_their_send(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    claim = await world_of_log.claimed(*ids)
    await world_of_log.log.record_accepted(accepted(claim.send_id, ids[0], ids[2]))
    assert await world_of_log.members(claim.send_id) == [ids[1]]
    assert (await world_of_log.open_send(claim.send_id))["state"] == "OPEN"
    assert (await world_of_log.email(ids[1]))["status"] == "SENDING"
    await world_of_log.log.record_accepted(accepted(claim.send_id, ids[1]))
    assert await world_of_log.send(claim.send_id) is None


async def test_two_owners_that_record_a_send_at_the_same_time_leave_nothing_of_it(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    one, other = accepted(claim.send_id, *ids)
    async with world_of_log.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        args = [ids, [one.provider_message_id, other.provider_message_id], [claim.send_id] * 2, "me"]
        await connection.fetch(query("record_accepted"), *args)
        recording = asyncio.create_task(world_of_log.log.record_accepted([one, other]))
        await world_of_log.until_blocked(recording)
        await transaction.commit()
    await recording
    assert await world_of_log.count("email_send_members") == 0
    assert await world_of_log.count("email_sends") == 0


async def test_emails_of_many_sends_are_recorded_in_one_call(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(6)
    claims = [await world_of_log.claimed(*ids[:3]), await world_of_log.claimed(ids[3])]
    emails = [*accepted(claims[0].send_id, *ids[:3]), *accepted(claims[1].send_id, ids[3])]
    await world_of_log.log.record_accepted(emails)
    assert await world_of_log.count("email_sends") == 0
    statuses = [(await world_of_log.email(email_id))["status"] for email_id in ids]
    assert statuses == ["SUCCESS"] * 4 + ["QUEUED"] * 2


async def test_a_200_that_a_late_owner_learns_is_recorded_all_the_same(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    late = world_of_log.consumer("late", lease=NO_TIME)
    claim = await world_of_log.claimed(email_id, log=late)
    await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
    await late.record_accepted(accepted(claim.send_id, email_id))
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"
    assert await world_of_log.count("email_sends") == 0


async def test_a_200_resolves_the_dead_letter_of_its_email_and_tells_it(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    letters = await world_of_log.fail(claim, BURY)
    resolved = await world_of_log.log.record_accepted(accepted(claim.send_id, email_id))
    assert resolved == letters
    letter = await world_of_log.letter(resolved[email_id])
    assert letter["resolution"] == "DELIVERED"
    assert letter["resolved_at"] is not None
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.log.record_accepted(accepted(claim.send_id, email_id)) == {}


async def test_a_200_resolves_no_letter_of_another_member(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    letters = await world_of_log.buried(*ids)
    send_id = (await world_of_log.one("SELECT id FROM email_sends"))["id"]
    assert await world_of_log.log.record_accepted(accepted(send_id, ids[0])) == {ids[0]: letters[ids[0]]}
    assert (await world_of_log.letter(letters[ids[1]]))["resolved_at"] is None
    assert await world_of_log.members(send_id) == [ids[1]]


@pytest.mark.parametrize("status", ["EXPIRED", "CANCELLED", "SUPPRESSED", "FAILED"])
async def test_a_200_wins_over_every_other_end(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.change(email_id, f"status = '{status}', ended_at = now() - interval '1 hour'")
    await world_of_log.log.record_accepted(accepted(claim.send_id, email_id))
    assert (await world_of_log.email(email_id))["status"] == "SUCCESS"


async def test_what_a_webhook_has_told_already_is_not_overwritten(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.change(email_id, "delivery = 'BOUNCED'")
    await world_of_log.log.record_accepted(accepted(claim.send_id, email_id))
    assert (await world_of_log.email(email_id))["delivery"] == "BOUNCED"


async def test_an_acceptance_of_an_email_that_is_unknown_is_nothing(world_of_log: LogWorld) -> None:
    assert await world_of_log.log.record_accepted(accepted("unknown", str(uuid.uuid4()))) == {}


# What was not


async def test_a_retry_keeps_the_send_and_frees_its_lease(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    claim = await world_of_log.claimed(*ids)
    assert await world_of_log.fail(claim, RETRY) == dict.fromkeys(ids)
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
    assert (row["status"], row["attempts"], row["ended_at"]) == ("RETRYING", 0, None)
    assert row["next_attempt_at"] > datetime.now(UTC)
    assert await world_of_log.events(email_id) == ["ACCEPTED", "POSTPONED"]
    again = await world_of_log.claimed(email_id)
    assert again == Claim(f"{email_id}.2", fence=again.fence, attempts=0)


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


async def test_a_refused_repeat_leaves_its_send_one_that_may_have_been_accepted(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
    claim = await world_of_log.repeated(email_id)
    await world_of_log.fail(claim, RETRY, refused=True)
    send = await world_of_log.open_send(claim.send_id)
    assert (send["requests_begun"], send["requests_refused"], send["maybe_accepted"]) == (2, 1, True)
    assert send["first_post_at"] is not None
    assert (await world_of_log.repeated(email_id)).maybe_accepted_before


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


async def test_a_failure_under_an_old_fence_changes_nothing(world_of_log: LogWorld) -> None:
    for action in FailureAction:
        (email_id,) = await world_of_log.accept()
        old = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
        await world_of_log.repeated(email_id, log=world_of_log.consumer("other"))
        before = await world_of_log.snapshot()
        assert await world_of_log.log.record_failures([failed(old, action)]) == [None]
        assert await world_of_log.snapshot() == before


async def test_a_failure_of_a_send_that_is_gone_or_dead_changes_nothing(world_of_log: LogWorld) -> None:
    for first in (RELEASE, REJECT, BURY):
        claim = await world_of_log.claimed()
        await world_of_log.fail(claim, first)
        before = await world_of_log.snapshot()
        for action in FailureAction:
            assert await world_of_log.log.record_failures([failed(claim, action)]) == [None]
        assert await world_of_log.snapshot() == before


async def test_a_failure_that_is_recorded_again_counts_once(world_of_log: LogWorld) -> None:
    """The reply to the first record was lost."""
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RETRY)
    claim = await world_of_log.repeated(email_id)
    for _ in range(2):
        await world_of_log.log.record_failures([failed(claim, RETRY, refused=True)])
    send = await world_of_log.open_send(claim.send_id)
    assert (send["requests_begun"], send["requests_refused"]) == (2, 1)
    assert send["maybe_accepted"]
    assert send["first_post_at"] is not None
    assert (await world_of_log.email(email_id))["attempts"] == 2
    assert (await world_of_log.repeated(email_id)).maybe_accepted_before


async def test_a_retry_that_was_recorded_can_not_become_something_else_without_a_new_claim(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.fail(claim, RETRY)
    before = await world_of_log.snapshot()
    for action in (RELEASE, REJECT, BURY):
        await world_of_log.log.record_failures([failed(claim, action)])
    assert await world_of_log.snapshot() == before


async def test_failures_of_many_sends_are_answered_in_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(5)
    claims = [await world_of_log.claimed(email_id) for email_id in ids]
    await world_of_log.log.record_accepted(accepted(claims[1].send_id, ids[1]))
    actions = [RETRY, RETRY, RELEASE, REJECT, BURY]
    answers = await world_of_log.log.record_failures(
        [failed(claim, action) for claim, action in zip(claims, actions, strict=True)]
    )
    assert [None if answer is None else list(answer) for answer in answers] == [
        [ids[0]],
        None,
        [ids[2]],
        [ids[3]],
        [ids[4]],
    ]
    statuses = [(await world_of_log.email(email_id))["status"] for email_id in ids]
    assert statuses == ["RETRYING", "SUCCESS", "RETRYING", "FAILED", "FAILED"]


async def test_a_failure_leaves_members_that_have_ended_meanwhile_as_they_are(world_of_log: LogWorld) -> None:
    expired, other = await world_of_log.accept(2)
    claim = await world_of_log.claimed(expired, other)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    letters = await world_of_log.fail(claim, BURY)
    assert letters == {other: letters[other]}
    row = await world_of_log.email(expired)
    assert (row["status"], row["attempts"]) == ("EXPIRED", 0)
    assert await world_of_log.count("email_dead_letters") == 1


# Entries that are no emails, and contents


def malformed(entry_id: str = "1-1", stream: str = "sred:email:send", **fields: object) -> MalformedEntry:
    values = {"id": uuid.uuid4(), "error": "no email", "raw_entry": b"\x00raw", **fields}
    return MalformedEntry(stream=stream, entry_id=entry_id, **values)  # type: ignore[arg-type]


async def test_a_malformed_entry_is_kept_whole(world_of_log: LogWorld) -> None:
    entry = malformed()
    (letter_id,) = await world_of_log.log.record_malformed([entry])
    letter = await world_of_log.letter(letter_id)
    assert letter_id == str(entry.id)
    assert (letter["reason"], letter["error"], letter["raw_entry"]) == ("MALFORMED", "no email", b"\x00raw")
    assert (letter["source_stream"], letter["source_entry_id"]) == ("sred:email:send", "1-1")
    assert letter["email_id"] is letter["resolved_at"] is None
    assert not letter["may_have_been_accepted"]


async def test_a_malformed_entry_that_is_read_twice_is_one_letter(world_of_log: LogWorld) -> None:
    first = await world_of_log.log.record_malformed([malformed()])
    assert await world_of_log.log.record_malformed([malformed()]) == first
    assert await world_of_log.count("email_dead_letters") == 1


async def test_malformed_entries_are_told_apart_by_stream_and_entry(world_of_log: LogWorld) -> None:
    entries = [malformed("1-1"), malformed("1-2"), malformed("1-1", "sred:email:send:low")]
    ids = await world_of_log.log.record_malformed(entries)
    assert ids == [str(entry.id) for entry in entries]
    again, new = await world_of_log.log.record_malformed([malformed("1-2"), malformed("1-3")])
    assert again == ids[1]
    assert new not in ids


async def test_consumers_that_read_a_malformed_entry_at_once_make_one_letter(world_of_log: LogWorld) -> None:
    ids = await asyncio.gather(*(world_of_log.log.record_malformed([malformed()]) for _ in range(10)))
    assert len({letter for (letter,) in ids}) == 1


async def test_contents_are_told_of_those_emails_that_still_have_one(world_of_log: LogWorld) -> None:
    with_content, ended = await world_of_log.accept(2)
    claim = await world_of_log.claimed(ended)
    await world_of_log.log.record_accepted(accepted(claim.send_id, ended))
    found = await world_of_log.log.get_messages([with_content, ended, str(uuid.uuid4())])
    assert found == {with_content: b"message"}


async def test_a_server_that_does_not_answer_is_for_later(world_of_log: LogWorld) -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        away = LogWorld(pool).log
        with pytest.raises(LogUnavailableError):
            await away.claim([send_of(str(uuid.uuid4()))])
        with pytest.raises(LogUnavailableError):
            await away.claim_repeats([str(uuid.uuid4())])
        with pytest.raises(LogUnavailableError):
            await away.record_accepted(accepted("s", str(uuid.uuid4())))
        with pytest.raises(LogUnavailableError):
            await away.record_failures([failed(Claim("s", 1, 0), RETRY)])
    assert await world_of_log.count("email_sends") == 0


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
