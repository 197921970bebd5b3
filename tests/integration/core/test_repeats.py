"""Sends that may have been accepted: who may repeat them, when, and who gives up a lease."""

import asyncio
import random
import uuid
from datetime import UTC, datetime, timedelta

import pytest
from integration.core.log_builder import (
    BATCH,
    HOUR,
    LEASE,
    NO_TIME,
    LogWorld,
    accepted,
    answer_columns,
    failed,
    failure_columns,
)

from sred_email_core.email_send_log.records import Claim, FailureAction, RepeatState

RETRY = FailureAction.RETRY
BURY = FailureAction.BURY
PAST = "expire_at = now() - interval '1 s'"

# What may be repeated


async def test_an_email_without_an_open_send_has_nothing_to_repeat(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    assert (await world_of_log.repeat(email_id)).state is RepeatState.GONE
    assert (await world_of_log.repeat(str(uuid.uuid4()))).state is RepeatState.GONE
    await world_of_log.buried(email_id)
    assert (await world_of_log.repeat(email_id)).state is RepeatState.GONE


async def test_hazard_7_a_send_whose_lease_is_held_is_left_to_its_owner(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id)
    before = await world_of_log.snapshot()
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert (repeat.state, repeat.claim) == (RepeatState.NOT_YET, None)
    assert LEASE - timedelta(seconds=30) < repeat.wait <= LEASE
    assert await world_of_log.snapshot() == before


async def test_a_send_whose_next_attempt_is_not_due_is_left_until_it_is(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    await world_of_log.retrying(*ids, delay=HOUR)
    before = await world_of_log.snapshot()
    repeat = await world_of_log.repeat(ids[1])
    assert (repeat.state, repeat.claim) == (RepeatState.NOT_YET, None)
    assert timedelta(minutes=59) < repeat.wait <= HOUR
    assert [member.email_id for member in repeat.members] == ids
    assert await world_of_log.snapshot() == before
    for email_id in ids:
        await world_of_log.change(email_id, "next_attempt_at = now() + interval '0.9 s'")
    assert (await world_of_log.repeat(ids[1])).state is RepeatState.CLAIMED


async def test_hazard_3_a_send_that_waits_is_taken_over_with_the_same_key_and_a_new_fence(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    first = await world_of_log.retrying(email_id)
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert repeat.state is RepeatState.CLAIMED
    assert repeat.claim is not None
    assert repeat.claim == Claim(
        f"{email_id}.1", fence=repeat.claim.fence, attempts=1, requests_begun=2, requests_refused=0, owners=1
    )
    assert repeat.claim.fence > first.fence
    assert repeat.claim.maybe_accepted_before
    send = await world_of_log.open_send(f"{email_id}.1")
    assert (send["owner"], send["owners"], send["requests_begun"]) == ("other", 1, 2)
    assert send["lease_expires_at"] > datetime.now(UTC)
    (member,) = repeat.members
    assert (member.email_id, member.kind, member.priority, member.attempts) == (email_id, "WELCOME", "HIGH", 1)
    assert member.message == b"message"
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


async def test_hazard_4_a_send_is_found_by_any_of_its_emails_and_comes_whole_and_in_order(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(5)
    random.shuffle(ids)
    await world_of_log.retrying(*ids)
    repeat = await world_of_log.repeat(ids[3])
    assert [member.email_id for member in repeat.members] == ids
    assert repeat.shape == BATCH


async def test_each_email_asked_for_gets_its_own_answer(world_of_log: LogWorld) -> None:
    waiting, leased, queued, later = await world_of_log.accept(4)
    await world_of_log.retrying(waiting)
    await world_of_log.retrying(later, delay=HOUR)
    await world_of_log.claimed(leased)
    repeats = await world_of_log.log.claim_repeats([queued, leased, waiting, later], [])
    assert [repeat.state for repeat in repeats] == [
        RepeatState.GONE,
        RepeatState.NOT_YET,
        RepeatState.CLAIMED,
        RepeatState.NOT_YET,
    ]


async def test_two_emails_of_one_send_get_the_same_claim(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    await world_of_log.retrying(*ids)
    one, other = await world_of_log.log.claim_repeats(ids, [])
    assert one == other
    assert one.claim is not None


async def test_consumers_that_race_for_a_repeat_get_it_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    logs = [world_of_log.consumer(f"c{n}") for n in range(20)]
    repeats = await asyncio.gather(*(world_of_log.repeat(email_id, log=log) for log in logs))
    states = [repeat.state for repeat in repeats]
    assert states.count(RepeatState.CLAIMED) == 1
    assert states.count(RepeatState.NOT_YET) == 19
    assert (await world_of_log.open_send(f"{email_id}.1"))["requests_begun"] == 2


async def test_a_repeat_that_waits_while_the_send_is_told_to_wait_is_not_made_before_it_is_due(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    late = await world_of_log.claimed(email_id, log=world_of_log.consumer("late", lease=NO_TIME))
    failure = failed(late, RETRY, refused=True, delay=HOUR)
    async with world_of_log.uncommitted("record_failures", *failure_columns(failure)):
        repeating = asyncio.create_task(world_of_log.repeat(email_id))
        await world_of_log.until_blocked(repeating)
    repeat = await repeating
    assert repeat.state is RepeatState.NOT_YET
    assert timedelta(minutes=59) < repeat.wait <= HOUR
    assert (await world_of_log.open_send(late.send_id))["requests_begun"] == 1


async def test_a_repeat_that_waits_while_the_send_is_buried_or_answered_finds_nothing(world_of_log: LogWorld) -> None:
    buried, sent = await world_of_log.accept(2)
    logs = world_of_log.consumer("late", lease=NO_TIME)
    burial = failed(await world_of_log.claimed(buried, log=logs), BURY)
    answer = accepted((await world_of_log.claimed(sent, log=logs)).send_id, sent)
    async with world_of_log.uncommitted("record_failures", *failure_columns(burial)) as other:
        await other.run("record_answers", *answer_columns(answer))
        repeating = [asyncio.create_task(world_of_log.repeat(email_id)) for email_id in (buried, sent)]
        await world_of_log.until_blocked(*repeating)
    assert [(await repeat).state for repeat in repeating] == [RepeatState.GONE, RepeatState.GONE]
    assert [(await world_of_log.email(email_id))["status"] for email_id in (buried, sent)] == ["FAILED", "SUCCESS"]


async def test_a_member_that_has_ended_is_repeated_with_the_rest_and_stays_ended(world_of_log: LogWorld) -> None:
    expired, other = await world_of_log.accept(2)
    await world_of_log.retrying(expired, other)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    repeat = await world_of_log.repeat(other)
    assert [(member.email_id, member.status) for member in repeat.members] == [
        (expired, "EXPIRED"),
        (other, "SENDING"),
    ]
    assert (await world_of_log.email(expired))["status"] == "EXPIRED"


# Owners that died


async def test_hazard_7_a_send_whose_lease_ran_out_has_one_owner_more(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id, log=world_of_log.consumer(lease=NO_TIME))
    repeat = await world_of_log.repeat(email_id, log=world_of_log.consumer("other"))
    assert repeat.state is RepeatState.CLAIMED
    send = await world_of_log.open_send(claim.send_id)
    assert (send["owners"], send["maybe_accepted"]) == (2, True)
    assert repeat.claim is not None
    assert repeat.claim.maybe_accepted_before


@pytest.mark.parametrize(
    ("old_owner", "alive", "deaths"),
    [("old", [], 1), ("old", ["old"], 0), ("old", ["me", "another"], 1), ("me", [], 0)],
    ids=["dead", "alive", "others are alive", "myself"],
)
async def test_hazard_9_an_owner_whose_lease_ran_out_has_died_unless_it_is_alive_or_asks_itself(
    world_of_log: LogWorld, old_owner: str, alive: list[str], deaths: int
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id, log=world_of_log.consumer(old_owner, lease=NO_TIME))
    repeat = await world_of_log.repeat(email_id, alive=alive)
    assert (repeat.state, repeat.deaths) == (RepeatState.CLAIMED, deaths)
    send = await world_of_log.open_send(f"{email_id}.1")
    assert (send["deaths"], send["owners"]) == (deaths, 2)


async def test_hazard_9_each_owner_that_died_is_counted(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    await world_of_log.claimed(*ids, log=world_of_log.consumer("c0", lease=NO_TIME))
    for deaths in range(1, 6):
        repeat = await world_of_log.repeat(ids[0], log=world_of_log.consumer(f"c{deaths}", lease=NO_TIME))
        assert repeat.deaths == deaths


async def test_hazard_9_an_owner_that_settled_its_send_or_gave_it_back_has_not_died(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    other = world_of_log.consumer("other")
    repeat = await world_of_log.repeat(email_id, log=other)
    assert repeat.deaths == 0
    assert repeat.claim is not None
    await other.undo_claims([repeat.claim])
    assert (await world_of_log.repeat(email_id)).deaths == 0


async def test_hazard_9_asking_for_a_lease_that_is_held_counts_no_death(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.claimed(email_id, log=world_of_log.consumer("old"))
    assert (await world_of_log.repeat(email_id)).state is RepeatState.NOT_YET
    assert (await world_of_log.open_send(f"{email_id}.1"))["deaths"] == 0


# The horizon, and expiry


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


async def test_a_lone_send_whose_email_has_expired_is_said_to_have(world_of_log: LogWorld) -> None:
    late, timely = await world_of_log.accept(2)
    await world_of_log.retrying(late)
    await world_of_log.retrying(timely)
    await world_of_log.change(late, PAST)
    await world_of_log.change(timely, "expire_at = now() + interval '1 hour'")
    repeat, other = await world_of_log.log.claim_repeats([late, timely], [])
    assert (repeat.state, other.state) == (RepeatState.EXPIRED, RepeatState.CLAIMED)
    assert repeat.claim is not None


async def test_hazard_4_a_batch_is_repeated_with_the_members_that_have_expired(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    await world_of_log.retrying(*ids)
    for email_id in ids:
        await world_of_log.change(email_id, PAST)
    repeat = await world_of_log.repeat(ids[0])
    assert repeat.state is RepeatState.CLAIMED
    assert [member.email_id for member in repeat.members] == ids
    assert all(member.expire_at is not None for member in repeat.members)


async def test_an_expired_send_whose_lease_is_held_or_that_is_not_due_is_not_ended_yet(world_of_log: LogWorld) -> None:
    leased, later = await world_of_log.accept(2)
    await world_of_log.claimed(leased)
    await world_of_log.retrying(later, delay=HOUR)
    for email_id in (leased, later):
        await world_of_log.change(email_id, PAST)
    repeats = await world_of_log.log.claim_repeats([leased, later], [])
    assert [repeat.state for repeat in repeats] == [RepeatState.NOT_YET, RepeatState.NOT_YET]


async def test_a_send_past_its_horizon_is_an_unknown_outcome_also_when_its_email_has_expired(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    await world_of_log.change(email_id, PAST)
    past = world_of_log.consumer(horizon=NO_TIME)
    assert (await world_of_log.repeat(email_id, log=past)).state is RepeatState.PAST_HORIZON


# The order of locks


@pytest.mark.parametrize("what", ["repeat", "undo"])
async def test_emails_are_locked_before_their_send(world_of_log: LogWorld, what: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.retrying(email_id)
    claim = await world_of_log.repeated(email_id) if what == "undo" else None
    async with world_of_log.uncommitted("lock_email", uuid.UUID(email_id)) as other:
        work = asyncio.create_task(
            world_of_log.log.undo_claims([claim]) if claim else world_of_log.log.claim_repeats([email_id], [])
        )
        await world_of_log.until_blocked(work)
        free = await other.connection.fetch("SELECT id FROM email_sends FOR UPDATE SKIP LOCKED")
    await work
    assert len(free) == 1
