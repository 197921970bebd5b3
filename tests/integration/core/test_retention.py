"""What leaves the log, and what stays, on a real PostgreSQL."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta

import pytest
from integration.core.log_builder import LONG, LogWorld, accepted, malformed, new_email

from sred_email_core.email_send_log.handled_letters import HandledLetterLog
from sred_email_core.email_send_log.records import LetterSelection
from sred_email_core.email_send_log.retention import BEGINNING, RetentionLog
from sred_email_core.email_send_log.webhook_events import WebhookEvent, WebhookLog

DAYS = timedelta(days=30)


class Kept:
    """A log in which time passes."""

    def __init__(self, world: LogWorld) -> None:
        self.world = world
        self.log = RetentionLog(world.pool)

    async def time_passes(self, days: float) -> None:
        """Let everything have happened longer ago."""
        older = f"- interval '{days} d'"
        for table, columns in {
            "email_send_log": ("created_at", "updated_at", "ended_at", "sent_at"),
            "email_sends": ("first_post_at", "lease_expires_at"),
            "email_dead_letters": ("failed_at", "resolved_at", "repeatable_until"),
            "email_events": ("at",),
            "email_webhook_events": ("received_at", "worked_at"),
        }.items():
            changes = ", ".join(f"{column} = {column} {older}" for column in columns)
            await self.world.pool.execute(f"UPDATE {table} SET {changes}")  # noqa: S608 - literals

    async def forget(self, size: int = 100) -> int:
        """Go through the log once; how many emails left."""
        after, emails = BEGINNING, 0
        while True:
            forgotten = await self.log.forget_emails(older_than=DAYS, after=after, size=size)
            emails += forgotten.emails
            if forgotten.page_end is None:
                return emails
            after = forgotten.page_end

    async def sent(self, *email_ids: str) -> None:
        claim = await self.world.claimed(*email_ids)
        await self.world.log.record_answers([accepted(claim.send_id, *email_ids)])

    async def left(self) -> dict[str, int]:
        """Rows of every table that holds something of emails."""
        tables = ("email_send_log", "email_sends", "email_send_members", "email_dead_letters", "email_events")
        return {table: await self.world.count(table) for table in tables}


@pytest.fixture
def kept(world_of_log: LogWorld) -> Kept:
    """An empty log."""
    return Kept(world_of_log)


async def test_an_email_leaves_with_all_that_is_its_own_when_it_ended_long_enough_ago(kept: Kept) -> None:
    (email_id,) = await kept.world.accept()
    await kept.sent(email_id)
    await kept.time_passes(29.99)
    assert await kept.forget() == 0
    await kept.time_passes(0.02)
    assert await kept.forget() == 1
    assert set((await kept.left()).values()) == {0}


async def test_its_key_is_free_then(kept: Kept) -> None:
    (email_id,) = await kept.world.accept(idempotency_key="key")
    await kept.sent(email_id)
    await kept.time_passes(31)
    await kept.forget()
    again = new_email("key")
    assert set(await kept.world.acceptance.accept([again])) == {again.id}


async def test_open_emails_stay_however_old_they_are(kept: Kept) -> None:
    await kept.world.accept()
    claim = await kept.world.claimed()
    await kept.world.retrying()
    await kept.time_passes(400)
    before = await kept.left()
    assert await kept.forget() == 0
    assert await kept.left() == before
    assert await kept.world.send(claim.send_id)


async def test_an_email_that_ended_in_a_send_that_is_open_stays_with_its_content(kept: Kept) -> None:
    first, second = await kept.world.accept(2)
    await kept.world.retrying(first, second)
    told = WebhookLog(kept.world.pool)
    await told.store([WebhookEvent("m", "DELIVERED", uuid.UUID(first), "p")])
    assert (await told.work(size=1)).closed == [first]
    await kept.time_passes(40)
    assert await kept.forget() == 0
    row = await kept.world.email(first)
    assert (row["status"], row["message"]) == ("SUCCESS", b"message")


async def test_a_letter_that_nobody_handled_stays_with_its_email_and_loses_its_content(kept: Kept) -> None:
    email_id, letter = await kept.world.rejected()
    raw = await kept.world.log.record_malformed(malformed())
    await kept.time_passes(29)
    assert await kept.log.forget_contents(older_than=DAYS, size=10) == []
    await kept.time_passes(2)
    assert await kept.forget() == 0
    lost = await kept.log.forget_contents(older_than=DAYS, size=10)
    assert sorted(lost) == sorted([letter, raw])
    assert (await kept.world.email(email_id))["message"] is None
    assert (await kept.world.letter(raw))["raw_entry"] is None
    assert {str(found.id) for found in await kept.world.letters.latest(size=10)} == {letter, raw}
    ids = [uuid.UUID(letter)]
    assert await kept.world.letters.replay(ids, include_outcome_unknown=True, include_poison=True) == []


async def test_what_letters_held_is_forgotten_again_until_redis_has_too(kept: Kept) -> None:
    _, letter = await kept.world.rejected()
    await kept.time_passes(31)
    assert await kept.log.forget_contents(older_than=DAYS, size=10) == [letter]
    assert await kept.log.forget_contents(older_than=DAYS, size=10) == [letter]
    await kept.log.note_contents_left([letter])
    assert await kept.log.forget_contents(older_than=DAYS, size=10) == []


@pytest.mark.parametrize("of_group", [False, True])
async def test_a_replay_of_many_does_not_even_look_at_letters_that_have_lost_their_content(
    kept: Kept, of_group: bool
) -> None:
    _, lost = await kept.world.rejected()
    await kept.time_passes(31)
    await kept.log.forget_contents(older_than=DAYS, size=10)
    await kept.log.note_contents_left([lost])
    _, fresh = await kept.world.rejected()
    letters = kept.world.letters
    group = (await letters.latest(size=1))[0].error_group if of_group else None
    listed = LetterSelection("REJECTED", group)
    for replay in (False, True):
        replayed = replace(listed, replay=replay)
        assert [str(letter_id) for _, letter_id in await letters.select(replayed, size=10)] == [fresh]
        assert await letters.count_selected(replayed) == (2, 1)
    assert [str(letter_id) for _, letter_id in await letters.select(listed, size=10)] == [lost, fresh]


async def test_handled_letters_leave_those_of_no_email_too(kept: Kept) -> None:
    handled = HandledLetterLog(kept.world.pool, horizon=LONG)
    _, letter = await kept.world.rejected()
    raw = await kept.world.log.record_malformed(malformed())
    await kept.time_passes(31)
    await handled.give_up([uuid.UUID(letter), uuid.UUID(raw)], "DISCARDED")
    assert await kept.forget() == 0  # something happened to it just now
    assert await kept.log.forget_handled_letters(older_than=DAYS, size=10) == 0
    await kept.time_passes(31)
    assert await kept.forget() == 1
    assert await kept.log.forget_handled_letters(older_than=DAYS, size=10) == 1
    assert set((await kept.left()).values()) == {0}


async def test_an_email_of_a_dead_send_stays_while_the_letter_of_another_is_open(kept: Kept) -> None:
    first, second = await kept.world.accept(2)
    letters = await kept.world.buried(first, second)
    handled = HandledLetterLog(kept.world.pool, horizon=LONG)
    await handled.give_up([uuid.UUID(letters[first])], "DISCARDED")
    await kept.time_passes(31)
    assert await kept.forget() == 0
    await handled.give_up([uuid.UUID(letters[second])], "DISCARDED")
    await kept.time_passes(1.1)
    assert await kept.forget() == 2
    assert set((await kept.left()).values()) == {0}


async def test_what_happened_within_a_day_is_there_for_watchers(kept: Kept) -> None:
    (email_id,) = await kept.world.accept()
    await kept.sent(email_id)
    await kept.time_passes(31)
    told = WebhookLog(kept.world.pool)
    await told.store([WebhookEvent("m", "COMPLAINED", uuid.UUID(email_id), None)])
    await told.work(size=1)
    await kept.time_passes(0.99)
    assert await kept.forget() == 0
    await kept.time_passes(0.02)
    assert await kept.forget() == 1


async def test_pages_go_on_behind_what_stays(kept: Kept) -> None:
    stay = await kept.world.accept(5)
    for email_id in await kept.world.accept(5):
        await kept.sent(email_id)
    await kept.time_passes(31)
    assert await kept.forget(size=2) == 5
    assert {str(row["id"]) for row in await kept.world.pool.fetch("SELECT id FROM email_send_log")} == set(stay)


async def test_replicas_that_forget_at_once_neither_wait_nor_fail(kept: Kept) -> None:
    for email_id in await kept.world.accept(20):
        await kept.sent(email_id)
    await kept.time_passes(31)
    assert sum(await asyncio.gather(*(kept.forget(size=3) for _ in range(4)))) == 20


async def test_an_email_that_somebody_works_on_is_passed_over(kept: Kept) -> None:
    (email_id,) = await kept.world.accept()
    await kept.sent(email_id)
    await kept.time_passes(31)
    async with kept.world.uncommitted("lock_email", uuid.UUID(email_id)):
        assert await kept.forget() == 0
    assert await kept.forget() == 1


async def test_a_late_answer_to_an_email_that_has_left_changes_nothing(kept: Kept) -> None:
    claim = await kept.world.claimed()
    (email_id,) = await kept.world.members(claim.send_id)
    await kept.world.log.record_answers([accepted(claim.send_id, email_id)])
    await kept.time_passes(31)
    await kept.forget()
    assert await kept.world.log.record_answers([accepted(claim.send_id, email_id)]) == {}
    assert await kept.world.count("email_send_log") == 0
