"""Emails and entries that end without a request, and where emails stand."""

import asyncio
import uuid
from datetime import timedelta

import pytest
from integration.core.log_builder import (
    HOUR,
    LEASE,
    NO_TIME,
    LogWorld,
    accepted,
    claim_columns,
    failed,
    malformed,
    send_of,
)

from sred_email_core.email_send_log.records import Claim, DeadLetter, FailureAction, MalformedEntry, Standing
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port

RETRY = FailureAction.RETRY
RELEASE = FailureAction.RELEASE
PAST = "expire_at = now() - interval '1 s'"

# Expired


async def test_hazard_20_an_email_that_expired_before_it_was_sent_ends_and_its_content_goes(
    world_of_log: LogWorld,
) -> None:
    late, timely, never = await world_of_log.accept(3)
    await world_of_log.change(late, PAST)
    await world_of_log.change(timely, "expire_at = now() + interval '1 hour'")
    assert await world_of_log.log.record_expired([late, timely, never, str(uuid.uuid4())]) == {late}
    row = await world_of_log.email(late)
    assert (row["status"], row["last_error"], row["message"]) == ("EXPIRED", "expired before it was sent", None)
    assert row["ended_at"] is not None
    assert await world_of_log.events(late) == ["ACCEPTED", "EXPIRED"]
    assert {(await world_of_log.email(i))["status"] for i in (timely, never)} == {"QUEUED"}


async def test_an_expired_email_keeps_what_the_provider_said_of_it(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RELEASE, error="429", delay=HOUR)
    await world_of_log.change(email_id, PAST)
    assert await world_of_log.log.record_expired([email_id]) == {email_id}
    row = await world_of_log.email(email_id)
    assert (row["last_error"], row["next_attempt_at"]) == ("429; expired before it was sent", None)


async def test_an_email_that_may_have_been_accepted_is_not_ended_by_its_expiry_alone(world_of_log: LogWorld) -> None:
    sending, waiting = await world_of_log.accept(2)
    await world_of_log.claimed(sending)
    await world_of_log.retrying(waiting)
    for email_id in (sending, waiting):
        await world_of_log.change(email_id, PAST)
    before = await world_of_log.snapshot()
    assert await world_of_log.log.record_expired([sending, waiting]) == set()
    assert await world_of_log.snapshot() == before


async def test_an_expiry_is_recorded_once(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, PAST)
    ended = await asyncio.gather(*(world_of_log.log.record_expired([email_id]) for _ in range(5)))
    assert sorted(map(len, ended)) == [0, 0, 0, 0, 1]
    assert await world_of_log.events(email_id) == ["ACCEPTED", "EXPIRED"]


async def test_an_expiry_that_waits_for_a_claim_ends_nothing(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with world_of_log.uncommitted("get_messages", []) as other:
        await world_of_log.change(email_id, "expire_at = now()")  # right after the other transaction began
        (claim,) = await other.run("claim_sends", *claim_columns(send_of(email_id)))
        expiring = asyncio.create_task(world_of_log.log.record_expired([email_id]))
        await world_of_log.until_blocked(expiring)
    assert claim["free"]
    assert await expiring == set()
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


# Poison


async def test_hazard_9_an_email_whose_owners_died_one_after_the_other_becomes_a_dead_letter(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    letter = await world_of_log.log.record_poison(email_id, "5 consumers died")
    assert letter is not None
    assert letter == DeadLetter(letter.id, "POISON", "5 consumers died")
    row = await world_of_log.email(email_id)
    assert (row["status"], row["last_error"], row["message"]) == ("FAILED", "5 consumers died", b"message")
    assert row["ended_at"] is not None
    kept = await world_of_log.letter(letter.id)
    assert (str(kept["email_id"]), kept["reason"], kept["may_have_been_accepted"]) == (email_id, "POISON", False)
    assert await world_of_log.events(email_id) == ["ACCEPTED", "FAILED"]
    assert await world_of_log.log.record_poison(email_id, "again") is None
    assert await world_of_log.count("email_dead_letters") == 1


async def test_hazard_9_an_email_that_was_refused_before_can_be_poison(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), RELEASE, counted=True, delay=HOUR)
    letter = await world_of_log.log.record_poison(email_id, "5 consumers died")
    assert letter is not None
    assert (await world_of_log.letter(letter.id))["attempts"] == 1
    assert (await world_of_log.email(email_id))["next_attempt_at"] is None


async def test_hazard_9_an_email_in_an_open_send_is_not_poison_because_it_may_have_been_accepted(
    world_of_log: LogWorld,
) -> None:
    sending, waiting, ended = await world_of_log.accept(3)
    await world_of_log.claimed(sending)
    await world_of_log.retrying(waiting)
    await world_of_log.change(ended, "status = 'CANCELLED', ended_at = now()")
    before = await world_of_log.snapshot()
    for email_id in (sending, waiting, ended, str(uuid.uuid4())):
        assert await world_of_log.log.record_poison(email_id, "5 consumers died") is None
    assert await world_of_log.snapshot() == before


async def test_hazard_9_poison_that_waits_for_a_claim_gives_nothing_up(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with world_of_log.uncommitted("claim_sends", *claim_columns(send_of(email_id))):
        recording = asyncio.create_task(world_of_log.log.record_poison(email_id, "5 consumers died"))
        await world_of_log.until_blocked(recording)
    assert await recording is None
    assert (await world_of_log.email(email_id))["status"] == "SENDING"
    assert await world_of_log.count("email_dead_letters") == 0


# Entries that are no emails


async def test_hazard_9_a_malformed_entry_is_kept_whole(world_of_log: LogWorld) -> None:
    entry = malformed()
    letter_id = await world_of_log.log.record_malformed(entry)
    letter = await world_of_log.letter(letter_id)
    assert letter_id == str(entry.id)
    assert (letter["reason"], letter["error"], letter["raw_entry"]) == ("MALFORMED", "no email", b"\x00raw")
    assert (letter["source_stream"], letter["source_entry_id"]) == ("sred:email:send", "1-1")
    assert letter["email_id"] is letter["named_email_id"] is letter["resolved_at"] is None
    assert not letter["may_have_been_accepted"]


async def test_a_malformed_entry_that_is_read_twice_is_one_letter(world_of_log: LogWorld) -> None:
    first = await world_of_log.log.record_malformed(malformed())
    assert await world_of_log.log.record_malformed(malformed()) == first
    assert await world_of_log.count("email_dead_letters") == 1


async def test_malformed_entries_that_name_no_email_are_told_apart_by_stream_and_entry(world_of_log: LogWorld) -> None:
    entries = [malformed("1-1"), malformed("1-2"), malformed("1-1", "sred:email:send:low")]
    ids = [await world_of_log.log.record_malformed(entry) for entry in entries]
    assert ids == [str(entry.id) for entry in entries]
    assert await world_of_log.log.record_malformed(malformed("1-2")) == ids[1]
    assert await world_of_log.log.record_malformed(malformed("1-3")) not in ids


async def test_consumers_that_read_a_malformed_entry_at_once_make_one_letter(world_of_log: LogWorld) -> None:
    ids = await asyncio.gather(*(world_of_log.log.record_malformed(malformed()) for _ in range(10)))
    assert len(set(ids)) == 1


async def test_other_bytes_under_the_same_stream_and_entry_are_another_letter(world_of_log: LogWorld) -> None:
    first = await world_of_log.log.record_malformed(malformed())
    assert await world_of_log.log.record_malformed(malformed(fields_sha256=bytes(32))) != first


async def test_malformed_entries_with_the_same_fields_that_name_the_same_email_are_one_letter(
    world_of_log: LogWorld,
) -> None:
    named, other = [uuid.UUID(email_id) for email_id in await world_of_log.accept(2)]
    first = await world_of_log.log.record_malformed(malformed("1-1", named_email_id=named))
    again = await world_of_log.log.record_malformed(malformed("1-2", "sred:email:send:low", named_email_id=named))
    assert again == first
    assert (await world_of_log.letter(first))["named_email_id"] == named
    assert await world_of_log.log.record_malformed(malformed("1-3", named_email_id=other)) != first
    changed = malformed("1-4", named_email_id=named, fields_sha256=bytes(32))
    assert await world_of_log.log.record_malformed(changed) != first
    assert await world_of_log.count("email_dead_letters") == 3


async def test_malformed_entries_that_name_an_email_that_is_not_in_the_log_are_kept_each(
    world_of_log: LogWorld,
) -> None:
    named = uuid.uuid4()
    ids = [await world_of_log.log.record_malformed(malformed(f"1-{n}", named_email_id=named)) for n in range(3)]
    assert len(set(ids)) == 3


async def test_a_malformed_entry_touches_nothing_of_the_email_that_it_names(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.log.record_malformed(malformed(named_email_id=uuid.UUID(email_id)))
    assert (await world_of_log.email(email_id))["status"] == "QUEUED"
    await world_of_log.claimed(email_id)


async def test_after_a_malformed_letter_was_discarded_the_next_entry_that_names_its_email_is_a_new_one(
    world_of_log: LogWorld,
) -> None:
    named = uuid.UUID((await world_of_log.accept())[0])
    first = await world_of_log.log.record_malformed(malformed("1-1", named_email_id=named))
    await world_of_log.pool.execute("UPDATE email_dead_letters SET resolution = 'DISCARDED', resolved_at = now()")
    assert await world_of_log.log.record_malformed(malformed("1-2", named_email_id=named)) != first


def malformed_columns(entry: MalformedEntry) -> list[object]:
    """The parameters of record_malformed.sql."""
    of_entry = (entry.id, entry.error, entry.raw_entry, entry.fields_sha256)
    return [*of_entry, entry.stream, entry.entry_id, entry.named_email_id]


@pytest.mark.parametrize("other_entry", ["1-1", "1-2"])
async def test_an_entry_whose_letter_another_is_writing_at_this_moment_is_that_letter(
    world_of_log: LogWorld, other_entry: str
) -> None:
    named = uuid.UUID((await world_of_log.accept())[0])
    theirs, mine = malformed("1-1", named_email_id=named), malformed(other_entry, named_email_id=named)
    async with world_of_log.uncommitted("record_malformed", *malformed_columns(theirs)):
        recording = asyncio.create_task(world_of_log.log.record_malformed(mine))
        await world_of_log.until_blocked(recording)
        assert not recording.done()
    assert await recording == str(theirs.id)
    assert await world_of_log.count("email_dead_letters") == 1


async def test_consumers_that_read_entries_of_the_same_email_at_once_make_one_letter(world_of_log: LogWorld) -> None:
    named = uuid.UUID((await world_of_log.accept())[0])
    entries = [malformed(f"1-{n}", named_email_id=named) for n in range(12)]
    ids = await asyncio.gather(*(world_of_log.log.record_malformed(entry) for entry in entries))
    assert len(set(ids)) == 1


# Where emails stand


async def test_where_emails_stand_is_told_of_those_that_are_in_the_log(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    standings = await world_of_log.log.get_standings([email_id, str(uuid.uuid4())])
    assert standings == {email_id: Standing("QUEUED", False, False, None, NO_TIME)}  # noqa: FBT003 - read in a row


async def test_an_email_that_ended_is_told_with_its_open_dead_letter(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    (sent,) = await world_of_log.accept()
    await world_of_log.log.record_answers([accepted((await world_of_log.claimed(sent)).send_id, sent)])
    standings = await world_of_log.log.get_standings([email_id, sent])
    dead = DeadLetter(letter, "REJECTED", "what the provider said")
    assert standings == {
        email_id: Standing("FAILED", True, False, None, NO_TIME, attempts=1, dead_letter=dead),  # noqa: FBT003
        sent: Standing("SUCCESS", True, False, None, NO_TIME, attempts=1),  # noqa: FBT003
    }


async def test_a_letter_that_was_resolved_is_told_no_more(world_of_log: LogWorld) -> None:
    email_id, letter = await world_of_log.rejected()
    await world_of_log.letters.replay([uuid.UUID(letter)], include_outcome_unknown=False, include_poison=False)
    standing = (await world_of_log.log.get_standings([email_id]))[email_id]
    assert (standing.status, standing.ended, standing.dead_letter) == ("QUEUED", False, None)


async def test_emails_in_open_sends_are_told_with_the_first_of_it_and_their_wait(world_of_log: LogWorld) -> None:
    first, second, waiting = await world_of_log.accept(3)
    await world_of_log.claimed(first, second)
    await world_of_log.retrying(waiting, delay=HOUR)
    standings = await world_of_log.log.get_standings([first, second, waiting])
    assert [standings[i].first_of_open_send for i in (first, second, waiting)] == [first, first, waiting]
    for email_id in (first, second):
        assert LEASE - timedelta(seconds=30) < standings[email_id].wait <= LEASE
    assert timedelta(minutes=59) < standings[waiting].wait <= HOUR


async def test_an_email_of_a_buried_send_is_in_no_open_one(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    letters = await world_of_log.buried(email_id)
    standing = (await world_of_log.log.get_standings([email_id]))[email_id]
    assert (standing.status, standing.ended, standing.first_of_open_send) == ("FAILED", True, None)
    assert standing.dead_letter == DeadLetter(letters[email_id], "ATTEMPTS_EXHAUSTED", "what the provider said")


async def test_an_email_that_has_expired_or_is_not_due_is_told_to(world_of_log: LogWorld) -> None:
    late, later = await world_of_log.accept(2)
    await world_of_log.change(late, PAST)
    await world_of_log.change(later, "next_attempt_at = now() + interval '1 hour'")
    standings = await world_of_log.log.get_standings([late, later])
    assert (standings[late].expired, standings[late].ended, standings[late].wait) == (True, False, NO_TIME)
    assert not standings[later].expired
    assert timedelta(minutes=59) < standings[later].wait <= HOUR


async def test_contents_are_told_of_those_emails_that_still_have_one(world_of_log: LogWorld) -> None:
    with_content, ended = await world_of_log.accept(2)
    claim = await world_of_log.claimed(ended)
    await world_of_log.log.record_answers([accepted(claim.send_id, ended)])
    found = await world_of_log.log.get_messages([with_content, ended, str(uuid.uuid4())])
    assert found == {with_content: b"message"}


async def test_a_server_that_does_not_answer_is_for_later(world_of_log: LogWorld) -> None:
    unknown = str(uuid.uuid4())
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        away = LogWorld(pool).log
        for attempt in (
            lambda: away.claim([send_of(unknown)]),
            lambda: away.claim_repeats([unknown], []),
            lambda: away.undo_claims([Claim("s", 1, 0)]),
            lambda: away.record_answers([accepted("s", unknown)]),
            lambda: away.record_failures([failed(Claim("s", 1, 0), RETRY)]),
            lambda: away.record_expired([unknown]),
            lambda: away.record_poison(unknown, "error"),
            lambda: away.record_malformed(malformed()),
            lambda: away.get_standings([unknown]),
            lambda: away.get_messages([unknown]),
        ):
            with pytest.raises(LogUnavailableError):
                await attempt()
    assert await world_of_log.count("email_sends") == 0
