"""Whatever changes the state of an email writes its event in the same statement, so the last event has its status."""

import importlib.resources
import re
import uuid
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from integration.core.log_builder import LogWorld, accepted

from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.recovery import RecoveryLog

_CHANGES = re.compile(r"(?:UPDATE|INSERT INTO)\s+email_send_log\b")
_ONLY_SENDING = {"claim_sends", "claim_repeats"}
"""They make emails SENDING, which is a state but no event."""
_ONLY_WORDS = {"erase_words", "forget_contents"}
"""They change no state."""

Walk = Callable[[LogWorld], Awaitable[list[str]]]


def test_every_statement_that_changes_emails_writes_events() -> None:
    folder = importlib.resources.files("sred_email_core.email_send_log") / "queries"
    silent = set()
    for file in folder.iterdir():
        text = file.read_text()
        if _CHANGES.search(text) and "INSERT INTO email_events" not in text:
            silent.add(file.name.removesuffix(".sql"))
    assert silent == _ONLY_SENDING | _ONLY_WORDS


async def told_as_it_is(world: LogWorld, email_id: str) -> str:
    """The status of an email, which its last event must have, too."""
    status = str((await world.email(email_id))["status"])
    last = await world.one(
        "SELECT status, attempt FROM email_events WHERE email_id = $1 ORDER BY sequence DESC LIMIT 1",
        uuid.UUID(email_id),
    )
    assert last["status"] == status, await world.events(email_id)
    return status


async def accept(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    return [email_id, "QUEUED"]


async def cancel(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.acceptance.cancel(uuid.UUID(email_id))
    return [email_id, "CANCELLED"]


async def send(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    claim = await world.claimed(email_id)
    await world.log.record_answers([accepted(claim.send_id, email_id)])
    return [email_id, "SUCCESS"]


async def refuse_in_batch(world: LogWorld) -> list[str]:
    taken, refused = await world.accept(2)
    claim = await world.claimed(taken, refused)
    await world.log.record_answers([accepted(claim.send_id, taken, refused=[refused])])
    return [refused, "RETRYING"]


async def fail(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.retrying(email_id)
    return [email_id, "RETRYING"]


async def put_off(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.fail(await world.claimed(email_id), FailureAction.RELEASE)
    return [email_id, "RETRYING"]


async def reject(world: LogWorld) -> list[str]:
    email_id, _ = await world.rejected()
    return [email_id, "FAILED"]


async def bury(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.buried(email_id)
    return [email_id, "FAILED"]


async def expire_in_send(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.fail(await world.claimed(email_id), FailureAction.EXPIRE)
    return [email_id, "EXPIRED"]


async def expire_by_time(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.change(email_id, "expire_at = now() - interval '1 s'")
    await RecoveryLog(world.pool).expire(size=10)
    return [email_id, "EXPIRED"]


async def poison(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    assert await world.log.record_poison(email_id, "killed its owners") is not None
    return [email_id, "FAILED"]


async def replay_anew(world: LogWorld) -> list[str]:
    email_id, letter = await world.rejected()
    await world.letters.replay([uuid.UUID(letter)], include_outcome_unknown=False, include_poison=False)
    return [email_id, "QUEUED"]


async def replay_repeat(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    letters = await world.buried(email_id)
    await world.letters.replay([uuid.UUID(letters[email_id])], include_outcome_unknown=True, include_poison=False)
    return [email_id, "RETRYING"]


async def put_off_with_the_words_of_before_the_replay(world: LogWorld) -> list[str]:
    email_id, _ = await replay_anew(world)
    await world.fail(await world.claimed(email_id), FailureAction.RELEASE)
    return [email_id, "RETRYING"]


async def undo(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.log.undo_claims([await world.claimed(email_id)])
    return [email_id, "QUEUED"]


async def undo_after_it_was_put_off(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.fail(await world.claimed(email_id), FailureAction.RELEASE, delay=timedelta())
    await world.log.undo_claims([await world.claimed(email_id)])
    return [email_id, "QUEUED"]


async def undo_a_repeat(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    await world.retrying(email_id, delay=timedelta())
    await world.log.undo_claims([await world.repeated(email_id)])
    return [email_id, "RETRYING"]


async def send_what_had_failed(world: LogWorld) -> list[str]:
    (email_id,) = await world.accept()
    claim = await world.claimed(email_id)
    await world.fail(claim, FailureAction.BURY)
    await world.log.record_answers([accepted(claim.send_id, email_id)])
    return [email_id, "SUCCESS"]


@pytest.mark.parametrize(
    "walk",
    [
        *(accept, cancel, send, refuse_in_batch, fail, put_off, reject, bury, expire_in_send, expire_by_time, poison),
        *(replay_anew, replay_repeat, put_off_with_the_words_of_before_the_replay),
        *(undo, undo_after_it_was_put_off, undo_a_repeat, send_what_had_failed),
    ],
    ids=lambda walk: walk.__name__,
)
async def test_the_last_event_of_an_email_has_its_status(world_of_log: LogWorld, walk: Walk) -> None:
    email_id, expected = await walk(world_of_log)
    assert await told_as_it_is(world_of_log, email_id) == expected


async def test_what_changes_nothing_writes_no_event(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    await world_of_log.log.undo_claims([claim])
    answered = await world_of_log.claimed(email_id)
    for _ in range(2):
        await world_of_log.log.record_answers([accepted(answered.send_id, email_id)])
    assert await world_of_log.events(email_id) == ["ACCEPTED", "SENT"]
