"""Open dead letters as operators see them, on a real PostgreSQL."""

import uuid
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from integration.core.log_builder import HOUR, LONG, LogWorld, accepted, malformed

from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.records import FailureAction, LetterSelection
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port


async def test_letters_are_listed_with_what_their_emails_were(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept(recipients=["x@example.com"], subject="S", kind="QUOTA_WARNING")
    letters = await world_of_log.buried(email_id)
    (listed,) = await world_of_log.letters.latest(size=10)
    assert (str(listed.id), str(listed.email_id)) == (letters[email_id], email_id)
    assert (listed.reason, listed.error, listed.attempts) == ("ATTEMPTS_EXHAUSTED", "what the provider said", 1)
    assert (listed.kind, listed.recipients, listed.subject) == ("QUOTA_WARNING", ["x@example.com"], "S")
    assert listed.may_have_been_accepted
    assert listed.repeatable_until is not None
    assert LONG - timedelta(minutes=1) < listed.repeatable_until - listed.failed_at <= LONG


async def test_a_malformed_letter_is_listed_without_an_email(world_of_log: LogWorld) -> None:
    letter = await world_of_log.log.record_malformed(malformed())
    (listed,) = await world_of_log.letters.latest(size=10)
    assert (str(listed.id), listed.reason) == (letter, "MALFORMED")
    assert (listed.email_id, listed.kind, listed.recipients, listed.subject) == (None, None, None, None)


async def test_letters_are_listed_oldest_first_and_page_by_page(world_of_log: LogWorld) -> None:
    letters = [(await world_of_log.rejected())[1] for _ in range(7)]
    after: tuple[datetime, uuid.UUID] | None = None
    seen: list[str] = []
    while page := await world_of_log.letters.select(LetterSelection(), size=3, after=after):
        assert len(page) <= 3
        seen += [str(letter_id) for _, letter_id in page]
        after = page[-1]
    assert seen == letters


async def test_letters_of_the_same_moment_are_each_listed_once(world_of_log: LogWorld) -> None:
    letters = await world_of_log.buried(*await world_of_log.accept(7))
    after: tuple[datetime, uuid.UUID] | None = None
    seen: list[str] = []
    while page := await world_of_log.letters.select(LetterSelection(), size=2, after=after):
        seen += [str(letter_id) for _, letter_id in page]
        after = page[-1]
    assert sorted(seen) == sorted(letters.values())


async def test_letters_are_listed_and_counted_by_reason_and_kind(world_of_log: LogWorld) -> None:
    _, rejected = await world_of_log.rejected()
    (email_id,) = await world_of_log.accept(kind="QUOTA_WARNING")
    buried = (await world_of_log.buried(email_id))[email_id]
    await world_of_log.log.record_malformed(malformed())

    async def listed(reason: str | None = None, kind: str | None = None) -> list[str]:
        found = await world_of_log.letters.latest(size=10, selection=LetterSelection(reason), kind=kind)
        return [str(letter.id) for letter in found]

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
    assert await world_of_log.letters.latest(size=10) == []
    assert await world_of_log.letters.count() == 0


async def test_a_server_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        letters = DeadLetterLog(pool, horizon=HOUR)
        with pytest.raises(LogUnavailableError):
            await letters.count()
        with pytest.raises(LogUnavailableError):
            await letters.latest(size=1)
        with pytest.raises(LogUnavailableError):
            await letters.replay([], include_outcome_unknown=False, include_poison=False)


async def failed_with(world_of_log: LogWorld, error: str) -> str:
    """The letter of a new email that was refused with these words."""
    claim = await world_of_log.claimed()
    (letter,) = (await world_of_log.fail(claim, FailureAction.REJECT, error=error)).values()
    assert letter is not None
    return letter


async def test_letters_are_grouped_by_reason_and_by_what_their_errors_have_in_common(world_of_log: LogWorld) -> None:
    errors = [
        "422 invalid_to: <ada@example.com> is refused, id 019a9c2e-7d40-7000-8000-2f3b1c5d7e90, after 0.21 s",
        "422 invalid_to: <bob.b@mail.example> is refused, id 119a9c2e-7d40-7000-8000-2f3b1c5d7e91, after 12.7 s",
        "451 blocked: number 12345678",
    ]
    letters = [await failed_with(world_of_log, error) for error in errors]
    await world_of_log.buried(*await world_of_log.accept())
    groups = await world_of_log.letters.groups(most=10, most_counted=10)
    assert [(g.reason, g.error_group, g.letters, g.more, g.may_have_been_accepted) for g in groups] == [
        ("REJECTED", "422 invalid_to: <…> is refused, id …, after # s", 2, False, False),
        ("ATTEMPTS_EXHAUSTED", "what the provider said", 1, False, True),
        ("REJECTED", "451 blocked: number #", 1, False, False),
    ]
    assert groups[0].oldest < groups[0].latest
    of_group = LetterSelection("REJECTED", groups[0].error_group)
    listed = await world_of_log.letters.latest(size=10, selection=of_group)
    assert [str(letter.id) for letter in listed] == [letters[1], letters[0]]
    assert {letter.error_group for letter in listed} == {groups[0].error_group}
    selected = await world_of_log.letters.select(of_group, size=10)
    assert [str(letter_id) for _, letter_id in selected] == letters[:2]
    assert await world_of_log.letters.count_selected(of_group) == (2, 2)
    first_only = replace(of_group, failed_until=groups[0].oldest)
    assert len(await world_of_log.letters.select(first_only, size=10)) == 1
    assert await world_of_log.letters.count_selected(first_only) == (1, 1)


async def test_groups_and_what_is_counted_of_them_are_bounded(world_of_log: LogWorld) -> None:
    for error in ("a", "a", "a", "b", "c"):
        await failed_with(world_of_log, error)
    groups = await world_of_log.letters.groups(most=2, most_counted=2)
    assert [(g.error_group, g.letters, g.more) for g in groups] == [("a", 2, True), ("b", 1, False)]


async def test_a_replay_takes_neither_malformed_letters_nor_what_may_have_arrived(world_of_log: LogWorld) -> None:
    await world_of_log.log.record_malformed(malformed())
    certain = await failed_with(world_of_log, "refused")
    unknown = (await world_of_log.buried(*await world_of_log.accept(), reason="OUTCOME_UNKNOWN")).values()
    selecting = {also: LetterSelection(replay=also) for also in (None, False, True)}
    found = {also: await world_of_log.letters.select(which, size=10) for also, which in selecting.items()}
    assert [str(letter_id) for _, letter_id in found[False]] == [certain]
    assert [str(letter_id) for _, letter_id in found[True]] == [certain, *unknown]
    assert len(found[None]) == 3
    assert [await world_of_log.letters.count_selected(which) for which in selecting.values()] == [
        (3, 3),
        (3, 1),
        (3, 2),
    ]
