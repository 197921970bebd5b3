"""Dead letters as operators use them, on a real PostgreSQL: what a replay reopens, and how."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from integration.core.log_builder import LONG, NO_TIME, LogWorld, accepted, answer_columns, malformed

from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.records import Claim, FailureAction, RepeatState, ReplayedEmail

REJECT = FailureAction.REJECT
BURY = FailureAction.BURY


async def replay(
    world: LogWorld,
    *letters: str,
    include_outcome_unknown: bool = False,
    include_poison: bool = False,
    log: DeadLetterLog | None = None,
) -> list[ReplayedEmail]:
    return await (log or world.letters).replay(
        [uuid.UUID(letter) for letter in letters],
        include_outcome_unknown=include_outcome_unknown,
        include_poison=include_poison,
    )


async def one_buried(world: LogWorld, **fields: object) -> tuple[str, str]:
    """A lone email whose send is buried; its id and its letter's."""
    (email_id,) = await world.accept()
    letters = await world.buried(email_id, **fields)
    return email_id, letters[email_id]


def ids_of(replayed: Sequence[ReplayedEmail]) -> list[str]:
    return [email.email_id for email in replayed]


# What a replay sends anew


async def test_a_rejected_email_is_sent_anew_under_a_new_key(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    (replayed,) = await replay(world_of_log, letter)
    row = await world_of_log.email(email_id)
    assert replayed == ReplayedEmail(
        email_id=email_id,
        dead_letter_id=letter,
        kind="WELCOME",
        priority="HIGH",
        created_at=row["created_at"],
        expire_at=None,
        message=b"message",
        alone=False,
        repeats=False,
        send_id=None,
    )
    assert (row["status"], row["attempts"], row["generation"]) == ("QUEUED", 0, 2)
    assert row["ended_at"] is row["next_attempt_at"] is None
    resolved = await world_of_log.letter(letter)
    assert resolved["resolution"] == "REPLAYED"
    assert resolved["resolved_at"] is not None
    assert await world_of_log.events(email_id) == ["ACCEPTED", "FAILED", "REPLAYED"]
    assert (await world_of_log.claimed(email_id)).send_id == f"{email_id}.2"


async def test_a_replayed_email_may_be_rejected_and_replayed_again(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    for generation in (2, 3, 4):
        await replay(world_of_log, letter)
        claim = await world_of_log.claimed(email_id)
        assert claim == Claim(f"{email_id}.{generation}", fence=claim.fence, attempts=0)
        letter = str((await world_of_log.fail(claim, REJECT))[email_id])
    assert await world_of_log.letters.count() == 1


async def test_a_letter_is_replayed_once(world_of_log: LogWorld) -> None:
    _, letter = await world_of_log.rejected()
    assert len(await replay(world_of_log, letter)) == 1
    before = await world_of_log.snapshot()
    assert await replay(world_of_log, letter, include_outcome_unknown=True, include_poison=True) == []
    assert await world_of_log.snapshot() == before


async def test_operators_who_replay_a_letter_at_once_replay_it_once(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    answers = await asyncio.gather(*(replay(world_of_log, letter) for _ in range(10)))
    assert sum(len(replayed) for replayed in answers) == 1
    assert await world_of_log.events(email_id) == ["ACCEPTED", "FAILED", "REPLAYED"]


async def test_letters_that_are_not_asked_for_or_unknown_are_left_alone(world_of_log: LogWorld) -> None:
    _, one = await world_of_log.rejected()
    _, other = await world_of_log.rejected()
    assert len(await replay(world_of_log, one, str(uuid.uuid4()))) == 1
    assert (await world_of_log.letter(other))["resolved_at"] is None


async def test_a_malformed_letter_is_never_replayed(world_of_log: LogWorld) -> None:
    letter = await world_of_log.log.record_malformed(malformed())
    before = await world_of_log.snapshot()
    assert await replay(world_of_log, letter, include_outcome_unknown=True, include_poison=True) == []
    assert await world_of_log.snapshot() == before


@pytest.mark.parametrize("refused", [False, True])
async def test_poison_is_replayed_only_when_it_is_included(world_of_log: LogWorld, refused: bool) -> None:
    email_id, letter = await one_buried(world_of_log, reason="POISON", refused=refused)
    before = await world_of_log.snapshot()
    assert await replay(world_of_log, letter, include_outcome_unknown=True) == []
    assert await world_of_log.snapshot() == before
    (replayed,) = await replay(world_of_log, letter, include_poison=True)
    assert (replayed.email_id, replayed.repeats) == (email_id, not refused)


async def test_poison_that_was_never_sent_is_replayed_anew_when_it_is_included(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    letter = await world_of_log.log.record_poison(email_id, "5 consumers died")
    assert letter is not None
    assert await replay(world_of_log, letter.id, include_outcome_unknown=True) == []
    (replayed,) = await replay(world_of_log, letter.id, include_poison=True)
    assert not replayed.repeats
    assert (await world_of_log.claimed(email_id)).send_id == f"{email_id}.1"


async def test_poison_that_was_rejected_is_replayed_anew_when_it_is_included(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    letters = await world_of_log.fail(await world_of_log.claimed(email_id), REJECT, reason="POISON")
    assert await replay(world_of_log, str(letters[email_id])) == []
    (replayed,) = await replay(world_of_log, str(letters[email_id]), include_poison=True)
    assert not replayed.repeats


async def test_what_may_have_been_accepted_is_repeated_with_the_same_key_and_bytes(world_of_log: LogWorld) -> None:
    email_id, letter = await one_buried(world_of_log)
    (replayed,) = await replay(world_of_log, letter)
    assert replayed.repeats
    assert (replayed.email_id, replayed.dead_letter_id, replayed.send_id) == (email_id, letter, f"{email_id}.1")
    row = await world_of_log.email(email_id)
    assert (row["status"], row["attempts"], row["generation"], row["ended_at"]) == ("RETRYING", 0, 1, None)
    assert row["next_attempt_at"] is not None
    repeat = await world_of_log.repeat(email_id)
    assert repeat.state is RepeatState.CLAIMED
    assert repeat.claim is not None
    assert repeat.claim.send_id == f"{email_id}.1"
    assert repeat.claim.attempts == 0
    assert repeat.claim.maybe_accepted_before


async def test_a_replay_never_renews_the_horizon(world_of_log: LogWorld) -> None:
    email_id, letter = await one_buried(world_of_log)
    first_post_at = (await world_of_log.open_send(f"{email_id}.1"))["first_post_at"]
    repeatable_until = (await world_of_log.letter(letter))["repeatable_until"]
    for _ in range(3):
        await replay(world_of_log, letter)
        claim = await world_of_log.repeated(email_id)
        letter = str((await world_of_log.fail(claim, BURY))[email_id])
        assert (await world_of_log.open_send(claim.send_id))["first_post_at"] == first_post_at
        assert (await world_of_log.letter(letter))["repeatable_until"] == repeatable_until


async def test_a_replay_of_one_member_reopens_the_whole_send_in_its_order(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(4)
    ids.reverse()
    letters = await world_of_log.buried(*ids)
    replayed = await replay(world_of_log, letters[ids[2]])
    assert ids_of(replayed) == ids
    assert [email.dead_letter_id for email in replayed] == [letters[email_id] for email_id in ids]
    assert all(email.repeats for email in replayed)
    assert len({email.send_id for email in replayed}) == 1
    assert await world_of_log.letters.count() == 0
    repeat = await world_of_log.repeat(ids[0])
    assert [member.email_id for member in repeat.members] == ids


async def test_a_replay_of_all_members_reopens_the_send_once(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    letters = await world_of_log.buried(*ids)
    assert ids_of(await replay(world_of_log, *letters.values())) == ids


async def test_emails_of_several_sends_come_send_by_send_in_the_order_of_each(world_of_log: LogWorld) -> None:
    batches = [(await world_of_log.accept(3))[::-1] for _ in range(3)]
    letters = [letter for batch in batches for letter in (await world_of_log.buried(*batch)).values()]
    replayed = await replay(world_of_log, *letters)
    send_ids = [email.send_id for email in replayed]
    assert send_ids == sorted(send_ids, key=send_ids.index)  # each send's emails stand together
    for batch in batches:
        positions = [ids_of(replayed).index(email_id) for email_id in batch]
        assert positions == list(range(positions[0], positions[0] + 3))


async def test_of_a_buried_send_that_was_answered_after_all_only_what_was_refused_is_sent_again_anew(
    world_of_log: LogWorld,
) -> None:
    ids = await world_of_log.accept(3)
    letters = await world_of_log.buried(*ids, reason="OUTCOME_UNKNOWN")
    send_id = (await world_of_log.one("SELECT id FROM email_sends"))["id"]
    await world_of_log.log.record_answers([accepted(send_id, ids[0], ids[2], refused=[ids[1]])])
    (replayed,) = await replay(world_of_log, *letters.values(), include_outcome_unknown=True)
    assert (replayed.email_id, replayed.repeats) == (ids[1], False)
    assert (await world_of_log.claimed(ids[1])).send_id == f"{ids[1]}.2"
    assert {(await world_of_log.email(email_id))["status"] for email_id in (ids[0], ids[2])} == {"SUCCESS"}


async def test_a_member_that_expired_stays_expired_while_the_rest_is_repeated(world_of_log: LogWorld) -> None:
    expired, other = await world_of_log.accept(2)
    claim = await world_of_log.claimed(expired, other)
    await world_of_log.change(expired, "status = 'EXPIRED', ended_at = now()")
    letters = await world_of_log.fail(claim, BURY)
    assert ids_of(await replay(world_of_log, str(letters[other]))) == [other]
    assert (await world_of_log.email(expired))["status"] == "EXPIRED"
    assert [member.email_id for member in (await world_of_log.repeat(other)).members] == [expired, other]


async def test_operators_who_replay_members_of_one_send_at_once_reopen_it_once(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(3)
    letters = await world_of_log.buried(*ids)
    async with asyncio.timeout(20):
        answers = await asyncio.gather(*(replay(world_of_log, letter) for letter in letters.values()))
    assert [ids_of(replayed) for replayed in answers if replayed] == [ids]
    assert await world_of_log.letters.count() == 0
    assert [await world_of_log.events(email_id) for email_id in ids] == [["ACCEPTED", "FAILED", "REPLAYED"]] * 3


# A replay and a late 200


async def test_a_replay_that_waits_for_a_late_200_sends_nothing_again(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    letters = await world_of_log.buried(*ids)
    send_id = (await world_of_log.one("SELECT id FROM email_sends"))["id"]
    async with world_of_log.uncommitted("record_answers", *answer_columns(accepted(send_id, *ids))):
        replaying = asyncio.create_task(replay(world_of_log, *letters.values()))
        await world_of_log.until_blocked(replaying)
    assert await replaying == []
    assert {(await world_of_log.email(email_id))["status"] for email_id in ids} == {"SUCCESS"}
    assert {(await world_of_log.letter(letter))["resolution"] for letter in letters.values()} == {"DELIVERED"}
    assert await world_of_log.count("email_sends") == 0


async def test_a_late_200_that_waits_for_a_replay_ends_its_emails(world_of_log: LogWorld) -> None:
    ids = await world_of_log.accept(2)
    letters = await world_of_log.buried(*ids)
    send_id = (await world_of_log.one("SELECT id FROM email_sends"))["id"]
    columns = [[uuid.UUID(letter) for letter in letters.values()], False, False, LONG]
    async with world_of_log.uncommitted("replay_dead_letters", *columns) as other:
        assert len(other.rows) == 2
        recording = asyncio.create_task(world_of_log.log.record_answers([accepted(send_id, *ids)]))
        await world_of_log.until_blocked(recording)
    assert await recording == {}
    assert {(await world_of_log.email(email_id))["status"] for email_id in ids} == {"SUCCESS"}
    assert await world_of_log.letters.count() == 0
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0


async def test_emails_are_locked_before_their_send_by_whoever_replays(world_of_log: LogWorld) -> None:
    email_id, letter = await one_buried(world_of_log)
    async with world_of_log.uncommitted("lock_email", uuid.UUID(email_id)) as other:
        replaying = asyncio.create_task(replay(world_of_log, letter))
        await world_of_log.until_blocked(replaying)
        free = await other.connection.fetch("SELECT id FROM email_sends FOR UPDATE SKIP LOCKED")
    assert ids_of(await replaying) == [email_id]
    assert len(free) == 1


# What a replay has to be forced to


async def test_an_unknown_outcome_needs_the_flag_and_is_still_repeated_within_the_horizon(
    world_of_log: LogWorld,
) -> None:
    email_id, letter = await one_buried(world_of_log, reason="OUTCOME_UNKNOWN")
    before = await world_of_log.snapshot()
    assert await replay(world_of_log, letter) == []
    assert await world_of_log.snapshot() == before
    (replayed,) = await replay(world_of_log, letter, include_outcome_unknown=True)
    assert (replayed.email_id, replayed.repeats, replayed.send_id) == (email_id, True, f"{email_id}.1")


@pytest.mark.parametrize("reason", ["ATTEMPTS_EXHAUSTED", "OUTCOME_UNKNOWN"])
async def test_past_the_horizon_a_replay_needs_the_flag_and_gets_a_new_key(world_of_log: LogWorld, reason: str) -> None:
    past = world_of_log.dead_letters(horizon=NO_TIME)
    email_id, letter = await one_buried(world_of_log, reason=reason)
    before = await world_of_log.snapshot()
    assert await replay(world_of_log, letter, log=past) == []
    assert await world_of_log.snapshot() == before
    (replayed,) = await replay(world_of_log, letter, log=past, include_outcome_unknown=True)
    assert not replayed.repeats
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.count("email_send_members") == 0
    claim = await world_of_log.claimed(email_id)
    assert claim.send_id == f"{email_id}.2"
    assert not claim.maybe_accepted_before


async def test_a_spent_key_is_not_used_again_even_within_the_horizon(world_of_log: LogWorld) -> None:
    email_id, letter = await one_buried(world_of_log, reason="OUTCOME_UNKNOWN", key_spent=True)
    assert await replay(world_of_log, letter) == []
    (replayed,) = await replay(world_of_log, letter, include_outcome_unknown=True)
    assert not replayed.repeats
    assert await world_of_log.count("email_sends") == 0
    assert (await world_of_log.claimed(email_id)).send_id == f"{email_id}.2"


async def test_past_the_horizon_one_member_of_a_batch_can_be_sent_anew_and_the_rest_stays(
    world_of_log: LogWorld,
) -> None:
    past = world_of_log.dead_letters(horizon=NO_TIME)
    ids = await world_of_log.accept(3)
    letters = await world_of_log.buried(*ids)
    send_id = (await world_of_log.one("SELECT id FROM email_sends"))["id"]
    replayed = await replay(world_of_log, letters[ids[1]], log=past, include_outcome_unknown=True)
    assert ids_of(replayed) == [ids[1]]
    assert await world_of_log.members(send_id) == [ids[0], ids[2]]
    assert (await world_of_log.open_send(send_id))["state"] == "DEAD"
    assert {(await world_of_log.email(i))["status"] for i in (ids[0], ids[2])} == {"FAILED"}
    assert await world_of_log.letters.count() == 2
    await replay(world_of_log, letters[ids[0]], letters[ids[2]], log=past, include_outcome_unknown=True)
    assert await world_of_log.count("email_sends") == 0


async def test_a_replay_of_many_takes_those_that_may_be_and_leaves_the_others(world_of_log: LogWorld) -> None:
    rejected, rejected_letter = await world_of_log.rejected()
    exhausted, exhausted_letter = await one_buried(world_of_log)
    _, unknown_letter = await one_buried(world_of_log, reason="OUTCOME_UNKNOWN")
    _, poison_letter = await one_buried(world_of_log, reason="POISON")
    no_email = await world_of_log.log.record_malformed(malformed())
    replayed = await replay(world_of_log, rejected_letter, exhausted_letter, unknown_letter, poison_letter, no_email)
    assert set(ids_of(replayed)) == {rejected, exhausted}
    assert await world_of_log.letters.count() == 3


async def test_a_letter_whose_content_is_gone_stays_open(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    await world_of_log.change(email_id, "message = NULL")
    assert await replay(world_of_log, letter) == []
    assert (await world_of_log.letter(letter))["resolved_at"] is None
    assert (await world_of_log.email(email_id))["status"] == "FAILED"
