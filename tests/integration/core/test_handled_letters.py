"""Dead letters that operators end without sending, on a real PostgreSQL."""

import uuid

import pytest
from integration.core.log_builder import LONG, NO_TIME, LogWorld, malformed

from sred_email_core.email_send_log.audit import AuditLog, Deed
from sred_email_core.email_send_log.handled_letters import HandledLetterLog
from sred_email_core.email_send_log.records import RepeatState

DEED = Deed("DISCARD", "all", peer="ipv4:127.0.0.1:1")


@pytest.fixture
def handled(world_of_log: LogWorld) -> HandledLetterLog:
    """The log as operators use it."""
    return HandledLetterLog(world_of_log.pool, horizon=LONG)


async def test_one_letter_is_told_until_it_is_handled(world_of_log: LogWorld, handled: HandledLetterLog) -> None:
    email_id, letter = await world_of_log.rejected()
    found = await handled.get(uuid.UUID(letter))
    assert found is not None
    assert (str(found.email_id), found.reason, found.recipients) == (email_id, "REJECTED", ["b@example.com"])
    await handled.give_up([uuid.UUID(letter)], "DISCARDED")
    assert await handled.get(uuid.UUID(letter)) is None


async def test_a_discarded_letter_leaves_a_failed_email_without_content(
    world_of_log: LogWorld, handled: HandledLetterLog
) -> None:
    (email_id,) = await world_of_log.accept()
    letter = (await world_of_log.buried(email_id))[email_id]
    assert await handled.give_up([uuid.UUID(letter)], "DISCARDED") == [letter]
    row = await world_of_log.email(email_id)
    assert (row["status"], row["message"]) == ("FAILED", None)
    assert (await world_of_log.letter(letter))["resolution"] == "DISCARDED"
    assert await world_of_log.events(email_id) == ["ACCEPTED", "FAILED", "DISCARDED"]
    assert await world_of_log.count("email_sends") == await world_of_log.count("email_send_members") == 0
    assert (
        await world_of_log.letters.replay([uuid.UUID(letter)], include_outcome_unknown=True, include_poison=True) == []
    )


async def test_what_is_discarded_twice_is_discarded_once(world_of_log: LogWorld, handled: HandledLetterLog) -> None:
    _, letter = await world_of_log.rejected()
    ids = [uuid.UUID(letter), uuid.uuid4()]
    assert await handled.give_up(ids, "DISCARDED", deed=DEED) == [letter]
    assert await handled.give_up(ids, "DISCARDED", deed=Deed("DISCARD", "again")) == []
    (entry,) = await AuditLog(world_of_log.pool).page(before=None, size=10)
    assert (entry.action, entry.target, entry.count, entry.actor) == ("DISCARD", "all", 1, "anonymous")


async def test_an_entry_that_was_no_email_loses_its_bytes(world_of_log: LogWorld, handled: HandledLetterLog) -> None:
    letter = await world_of_log.log.record_malformed(malformed())
    assert await handled.give_up([uuid.UUID(letter)], "DISCARDED") == [letter]
    assert (await world_of_log.letter(letter))["raw_entry"] is None


async def test_a_send_that_may_have_been_accepted_keeps_all_contents_while_one_letter_is_open(
    world_of_log: LogWorld, handled: HandledLetterLog
) -> None:
    first, second = await world_of_log.accept(2)
    letters = await world_of_log.buried(first, second)
    await handled.give_up([uuid.UUID(letters[first])], "DISCARDED")
    assert (await world_of_log.email(first))["message"] == b"message"
    replayed = await world_of_log.letters.replay(
        [uuid.UUID(letters[second])], include_outcome_unknown=False, include_poison=False
    )
    assert [email.email_id for email in replayed] == [first, second]
    repeat = await world_of_log.repeat(first)
    assert (repeat.state, len(repeat.members)) == (RepeatState.CLAIMED, 2)


async def test_the_last_letter_of_a_send_takes_all_contents_with_it(
    world_of_log: LogWorld, handled: HandledLetterLog
) -> None:
    emails = await world_of_log.accept(3)
    letters = await world_of_log.buried(*emails)
    for email_id in emails:
        await handled.give_up([uuid.UUID(letters[email_id])], "NOT_DELIVERED", note="asked them")
    assert [(await world_of_log.email(e))["message"] for e in emails] == [None] * 3
    assert await world_of_log.count("email_sends") == 0
    assert (await world_of_log.letter(letters[emails[0]]))["note"] == "asked them"


async def test_past_the_horizon_no_content_stays_for_the_others(world_of_log: LogWorld) -> None:
    first, second = await world_of_log.accept(2)
    letters = await world_of_log.buried(first, second)
    handled = HandledLetterLog(world_of_log.pool, horizon=NO_TIME)
    await handled.give_up([uuid.UUID(letters[first])], "DISCARDED")
    assert (await world_of_log.email(first))["message"] is None
    assert (await world_of_log.email(second))["message"] == b"message"
    assert await world_of_log.count("email_send_members") == 1


async def test_what_was_delivered_ends_as_success_with_the_note_in_its_timeline(
    world_of_log: LogWorld, handled: HandledLetterLog
) -> None:
    (email_id,) = await world_of_log.accept()
    letter = (await world_of_log.buried(email_id))[email_id]
    assert await handled.resolve_delivered([uuid.UUID(letter)], note="she says so", deed=DEED) == [letter]
    row = await world_of_log.email(email_id)
    assert (row["status"], row["delivery"], row["message"], row["last_error"]) == ("SUCCESS", "DELIVERED", None, None)
    resolved = await world_of_log.letter(letter)
    assert (resolved["resolution"], resolved["note"]) == ("DELIVERED", "she says so")
    assert (await world_of_log.events(email_id))[-1] == "DELIVERED"
    (entry,) = await AuditLog(world_of_log.pool).page(before=None, size=10)
    assert entry.count == 1


async def test_of_a_letter_that_is_no_email_it_can_be_said_that_it_was_delivered(
    world_of_log: LogWorld, handled: HandledLetterLog
) -> None:
    letter = await world_of_log.log.record_malformed(malformed())
    assert await handled.resolve_delivered([uuid.UUID(letter)]) == [letter]
    assert await handled.resolve_delivered([uuid.UUID(letter)]) == []
