"""Claims before a POST: an email is in at most one send, and a send is made wholly or not at all."""

import asyncio
import random
import uuid
from datetime import timedelta

import pytest
from integration.core.log_builder import (
    BODY,
    HOUR,
    LEASE,
    NO_TIME,
    LogWorld,
    accepted,
    claim_columns,
    claims_of,
    failed,
    failure_columns,
    send_of,
    standings_of,
)

from sred_email_core.email_send_log.records import Claim, FailureAction, NewSend, RepeatState, SendShape
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import LogUnavailableError

RETRY = FailureAction.RETRY

# What is claimed


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
    await world_of_log.fail(claim, RETRY)
    repeat = await world_of_log.repeat(email_id)
    assert repeat.state is RepeatState.CLAIMED
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
    await world_of_log.log.record_answers([accepted("none", ids[4])])
    sends = [send_of(ids[0]), send_of(*ids[1:4]), send_of(ids[4]), send_of(*ids[5:8]), send_of(ids[8])]
    answers = await world_of_log.log.claim(sends)
    keys = [answer.send_id if isinstance(answer, Claim) else None for answer in answers]
    assert keys == [f"{ids[0]}.1", sends[1].send_id, None, sends[3].send_id, f"{ids[8]}.1"]


async def test_a_claim_tells_the_attempts_of_the_email_with_the_most(world_of_log: LogWorld) -> None:
    one, other = await world_of_log.accept(2)
    await world_of_log.change(other, "attempts = 5")
    assert (await world_of_log.claimed(one, other)).attempts == 5


async def test_hazard_20_a_claim_tells_how_long_it_is_until_the_first_of_its_emails_expires(
    world_of_log: LogWorld,
) -> None:
    soon, later, never = await world_of_log.accept(3)
    await world_of_log.change(soon, "expire_at = now() + interval '1 hour'")
    await world_of_log.change(later, "expire_at = now() + interval '2 hours'")
    expires_in = (await world_of_log.claimed(later, never, soon)).expires_in
    assert expires_in is not None
    assert timedelta(minutes=59) < expires_in <= HOUR


# What is not


async def test_a_send_is_claimed_wholly_or_not_at_all(world_of_log: LogWorld) -> None:
    free, held, also_free = await world_of_log.accept(3)
    await world_of_log.claimed(held)
    before = await world_of_log.snapshot()
    (answer,) = await world_of_log.log.claim([send_of(free, held, also_free)])
    standings = standings_of(answer)
    assert list(standings) == [held]
    assert (standings[held].status, standings[held].ended, standings[held].expired) == ("SENDING", False, False)
    assert standings[held].first_of_open_send == held
    assert LEASE - timedelta(seconds=30) < standings[held].wait <= LEASE
    assert await world_of_log.snapshot() == before


async def test_a_send_that_is_not_claimed_fails_none_of_its_neighbours(world_of_log: LogWorld) -> None:
    one, two = await world_of_log.accept(2)
    answers = await world_of_log.log.claim([send_of(one), send_of(str(uuid.uuid4())), send_of(two)])
    assert [type(answer) for answer in answers] == [Claim, dict, Claim]


async def test_an_email_that_is_in_a_send_is_told_with_the_first_of_that_send_and_when_it_is_due(
    world_of_log: LogWorld,
) -> None:
    first, second = await world_of_log.accept(2)
    await world_of_log.retrying(first, second, delay=HOUR)
    (answer,) = await world_of_log.log.claim([send_of(second)])
    standing = standings_of(answer)[second]
    assert (standing.status, standing.first_of_open_send, standing.attempts) == ("RETRYING", first, 1)
    assert timedelta(minutes=59) < standing.wait <= HOUR


async def test_an_email_that_does_not_exist_is_not_claimed(world_of_log: LogWorld) -> None:
    unknown = str(uuid.uuid4())
    (answer,) = await world_of_log.log.claim([send_of(unknown)])
    standing = standings_of(answer)[unknown]
    assert (standing.status, standing.ended, standing.first_of_open_send) == (None, False, None)


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED", "CANCELLED", "EXPIRED", "SUPPRESSED"])
async def test_an_email_that_has_ended_is_not_claimed(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}', ended_at = now()")
    (answer,) = await world_of_log.log.claim([send_of(email_id)])
    standing = standings_of(answer)[email_id]
    assert (standing.status, standing.ended, standing.expired) == (status, True, False)


async def test_hazard_20_an_email_that_has_expired_is_not_claimed_and_said_to_have(world_of_log: LogWorld) -> None:
    late, timely = await world_of_log.accept(2)
    await world_of_log.change(late, "expire_at = now()")
    await world_of_log.change(timely, "expire_at = now() + interval '1 hour'")
    answers = await world_of_log.log.claim([send_of(late), send_of(timely)])
    standing = standings_of(answers[0])[late]
    assert (standing.status, standing.ended, standing.expired) == ("QUEUED", False, True)
    assert isinstance(answers[1], Claim)


@pytest.mark.parametrize("status", ["QUEUED", "SCHEDULED", "RETRYING"])
async def test_an_email_that_waits_is_free(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}'")
    await world_of_log.claimed(email_id)


async def test_an_email_whose_next_attempt_is_not_due_is_not_claimed_and_told_with_its_wait(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), FailureAction.RELEASE, delay=HOUR)
    before = await world_of_log.snapshot()
    (answer,) = await world_of_log.log.claim([send_of(email_id)])
    standing = standings_of(answer)[email_id]
    assert (standing.status, standing.ended, standing.expired, standing.first_of_open_send) == (
        "RETRYING",
        False,
        False,
        None,
    )
    assert timedelta(minutes=59) < standing.wait <= HOUR
    assert await world_of_log.snapshot() == before


@pytest.mark.parametrize("due", ["- interval '1 hour'", "+ interval '0.9 s'"])
async def test_an_email_that_is_due_now_or_within_a_second_is_free(world_of_log: LogWorld, due: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"next_attempt_at = now() {due}")
    await world_of_log.claimed(email_id)


async def test_hazard_20_an_email_is_not_claimed_before_its_scheduled_time_by_postgresqls_clock(
    world_of_log: LogWorld,
) -> None:
    far, near, due = await world_of_log.accept(3)
    await world_of_log.change(far, "status = 'SCHEDULED', send_at = now() + interval '30 days'")
    await world_of_log.change(near, "status = 'SCHEDULED', send_at = now() + interval '0.9 s'")
    await world_of_log.change(due, "status = 'SCHEDULED', send_at = now()")
    before = await world_of_log.snapshot()
    alone = await world_of_log.log.claim([send_of(far), send_of(near), send_of(far, due)])
    waits = [standings_of(answer) for answer in alone]
    assert [list(standings) for standings in waits] == [[far], [near], [far]]
    assert timedelta(days=29) < waits[0][far].wait <= timedelta(days=30)
    assert timedelta() < waits[1][near].wait < timedelta(seconds=0.9)
    assert not waits[0][far].ended
    assert await world_of_log.snapshot() == before
    standing = (await world_of_log.log.get_standings([far]))[far]
    assert timedelta(days=29) < standing.wait <= timedelta(days=30)
    await world_of_log.claimed(due)


# Several at once


async def test_one_email_in_two_sends_of_one_call_is_claimed_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with asyncio.timeout(2):
        answers = await world_of_log.log.claim([send_of(email_id), send_of(email_id)])
    assert isinstance(answers[0], Claim)
    assert standings_of(answers[1])[email_id].first_of_open_send == email_id


async def test_two_sends_with_one_key_do_not_go_on_for_ever(world_of_log: LogWorld) -> None:
    one, other = await world_of_log.accept(2)
    await world_of_log.log.claim([send_of(one, send_id="same")])
    async with asyncio.timeout(2):
        with pytest.raises(LogUnavailableError):
            await world_of_log.log.claim([send_of(other, send_id="same")])


async def test_hazard_4_a_claim_that_waits_for_another_finds_its_send_once_that_is_committed(
    world_of_log: LogWorld,
) -> None:
    free, contended = await world_of_log.accept(2)
    async with world_of_log.uncommitted("claim_sends", *claim_columns(send_of(contended))):
        claiming = asyncio.create_task(world_of_log.log.claim([send_of(free, contended)]))
        await world_of_log.until_blocked(claiming)
    (answer,) = await claiming
    standings = standings_of(answer)
    assert list(standings) == [contended]
    assert (standings[contended].status, standings[contended].first_of_open_send) == ("SENDING", contended)
    assert NO_TIME < standings[contended].wait <= LEASE
    assert await world_of_log.count("email_sends") == 1


async def test_a_claim_that_waits_for_another_is_made_when_that_is_rolled_back(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with world_of_log.pool.acquire() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await connection.fetch(query("claim_sends"), *claim_columns(send_of(email_id)))
        claiming = asyncio.create_task(world_of_log.log.claim([send_of(email_id)]))
        await world_of_log.until_blocked(claiming)
        await transaction.rollback()
    (claim,) = await claiming
    assert isinstance(claim, Claim)
    assert (await world_of_log.open_send(claim.send_id))["owner"] == "me"


async def test_hazard_4_a_claim_that_waited_while_a_send_was_made_and_failed_does_not_take_its_email(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    async with world_of_log.uncommitted("claim_sends", *claim_columns(send_of(email_id))) as other:
        claiming = asyncio.create_task(world_of_log.log.claim([send_of(email_id)]))
        await world_of_log.until_blocked(claiming)
        claim = Claim(other.rows[0]["send_id"], other.rows[0]["fence"], 0)
        await other.run("record_failures", *failure_columns(failed(claim, RETRY)))
    (answer,) = await claiming
    standing = standings_of(answer)[email_id]
    assert (standing.status, standing.first_of_open_send) == ("RETRYING", email_id)
    assert await world_of_log.count("email_sends") == 1


async def test_an_email_is_never_in_two_open_sends_however_many_claim_it_at_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    logs = [world_of_log.consumer(f"c{n}") for n in range(20)]
    answers = [answer for (answer,) in await asyncio.gather(*(log.claim([send_of(email_id)]) for log in logs))]
    assert len(claims_of(answers)) == 1
    lost = [standings_of(answer)[email_id] for answer in answers if not isinstance(answer, Claim)]
    assert {standing.first_of_open_send for standing in lost} == {email_id}
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
                (repeat,) = await log.claim_repeats([email_id], [])
                if repeat.claim is None:
                    continue
                claim = repeat.claim
            if number % 2:
                await log.record_failures([failed(claim, RETRY)])
            else:
                await log.record_answers([accepted(claim.send_id, email_id)])

    async with asyncio.timeout(30):
        await asyncio.gather(*(work(number) for number in range(12)))
    odd = "SELECT count(*) FROM email_send_log WHERE (status = 'SUCCESS') <> (ended_at IS NOT NULL)"
    assert await world_of_log.pool.fetchval(odd) == 0
    left = (
        "SELECT count(*) FROM email_send_members m JOIN email_send_log e ON e.id = m.email_id"
        " WHERE e.ended_at IS NOT NULL"
    )
    assert await world_of_log.pool.fetchval(left) == 0
