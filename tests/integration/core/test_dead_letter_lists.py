"""Open dead letters as operators see them, on a real PostgreSQL."""

import uuid
from datetime import datetime, timedelta

import pytest
from integration.core.log_builder import HOUR, LONG, LogWorld, accepted, malformed

from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port


async def test_letters_are_listed_with_what_their_emails_were(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept(recipients=["x@example.com"], subject="S", kind="QUOTA_WARNING")
    letters = await world_of_log.buried(email_id)
    (listed,) = await world_of_log.letters.page(size=10)
    assert (str(listed.id), str(listed.email_id)) == (letters[email_id], email_id)
    assert (listed.reason, listed.error, listed.attempts) == ("ATTEMPTS_EXHAUSTED", "what the provider said", 1)
    assert (listed.kind, listed.recipients, listed.subject) == ("QUOTA_WARNING", ["x@example.com"], "S")
    assert listed.may_have_been_accepted
    assert listed.repeatable_until is not None
    assert LONG - timedelta(minutes=1) < listed.repeatable_until - listed.failed_at <= LONG


async def test_a_malformed_letter_is_listed_without_an_email(world_of_log: LogWorld) -> None:
    letter = await world_of_log.log.record_malformed(malformed())
    (listed,) = await world_of_log.letters.page(size=10)
    assert (str(listed.id), listed.reason) == (letter, "MALFORMED")
    assert (listed.email_id, listed.kind, listed.recipients, listed.subject) == (None, None, None, None)


async def test_letters_are_listed_oldest_first_and_page_by_page(world_of_log: LogWorld) -> None:
    letters = [(await world_of_log.rejected())[1] for _ in range(7)]
    after: tuple[datetime, uuid.UUID] | None = None
    seen: list[str] = []
    while page := await world_of_log.letters.page(size=3, after=after):
        assert len(page) <= 3
        seen += [str(letter.id) for letter in page]
        after = (page[-1].failed_at, page[-1].id)
    assert seen == letters


async def test_letters_of_the_same_moment_are_each_listed_once(world_of_log: LogWorld) -> None:
    letters = await world_of_log.buried(*await world_of_log.accept(7))
    after: tuple[datetime, uuid.UUID] | None = None
    seen: list[str] = []
    while page := await world_of_log.letters.page(size=2, after=after):
        seen += [str(letter.id) for letter in page]
        after = (page[-1].failed_at, page[-1].id)
    assert sorted(seen) == sorted(letters.values())


async def test_letters_are_listed_and_counted_by_reason_and_kind(world_of_log: LogWorld) -> None:
    _, rejected = await world_of_log.rejected()
    (email_id,) = await world_of_log.accept(kind="QUOTA_WARNING")
    buried = (await world_of_log.buried(email_id))[email_id]
    await world_of_log.log.record_malformed(malformed())

    async def listed(**which: str) -> list[str]:
        return [str(letter.id) for letter in await world_of_log.letters.page(size=10, **which)]  # type: ignore[arg-type]

    assert await listed(reason="REJECTED") == [rejected]
    assert await listed(kind="QUOTA_WARNING") == [buried]
    assert await listed(reason="REJECTED", kind="QUOTA_WARNING") == []
    assert await world_of_log.letters.count() == 3
    assert await world_of_log.letters.count("REJECTED") == 1
    assert await world_of_log.letters.count("POISON") == 0


async def test_a_letter_that_was_resolved_is_neither_listed_nor_counted(world_of_log: LogWorld) -> None:
    _, letter = await world_of_log.rejected()
    await world_of_log.letters.replay([uuid.UUID(letter)], include_outcome_unknown=False, include_poison=False)
    (email_id,) = await world_of_log.accept()
    await world_of_log.buried(email_id)
    await world_of_log.log.record_answers([accepted(f"{email_id}.1", email_id)])
    assert await world_of_log.letters.page(size=10) == []
    assert await world_of_log.letters.count() == 0


async def test_a_server_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        letters = DeadLetterLog(pool, horizon=HOUR)
        with pytest.raises(LogUnavailableError):
            await letters.count()
        with pytest.raises(LogUnavailableError):
            await letters.page(size=1)
        with pytest.raises(LogUnavailableError):
            await letters.replay([], include_outcome_unknown=False, include_poison=False)
