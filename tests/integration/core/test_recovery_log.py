"""The log as the reconciler reads it, on a real PostgreSQL: what must have a place, and what must not."""

import asyncio
import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import structlog
from integration.core.log_builder import HOUR, LogWorld

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.email_send_log.recovery import LOAD_EMAILS, OpenSend, RecoveryLog
from sred_email_core.email_send_log.recovery_letters import RecoveryLetterLog
from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.recovery_scripts import OpenEmail
from sred_email_local.ports import free_port

CONTENT = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hello", html="<p>x</p>")
MESSAGE = CONTENT.SerializeToString()
LARGE = EmailContent(html="x" * 70_000).SerializeToString()
MINUTE = timedelta(minutes=1)
ALL = 1000


@pytest.fixture
def recovery(world_of_log: LogWorld) -> RecoveryLog:
    """What is read."""
    return RecoveryLog(world_of_log.pool)


async def accept(world: LogWorld, count: int = 1, **fields: Any) -> list[str]:
    """New emails that can be read; their ids, in order."""
    return sorted(await world.accept(count, **{"message": MESSAGE, **fields}))


async def age(world: LogWorld) -> None:
    """Let everything in the log have last changed an hour ago."""
    await world.pool.execute("UPDATE email_send_log SET updated_at = updated_at - interval '1 hour'")


async def open_emails(recovery: RecoveryLog, older_than: timedelta = timedelta()) -> list[OpenEmail]:
    return (await recovery.open_page(older_than=older_than, size=ALL)).emails


# Open emails


async def test_open_emails_come_in_the_order_of_their_ids_in_pages(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    ids = await accept(world_of_log, 5)
    first = await recovery.open_page(size=2)
    assert [e.email_id for e in first.emails] == ids[:2]
    assert str(first.last_id) == ids[1]
    assert first.last_id is not None
    second = await recovery.open_page(after=first.last_id, size=2)
    assert [e.email_id for e in second.emails] == ids[2:4]
    assert second.last_id is not None
    third = await recovery.open_page(after=second.last_id, size=2)
    assert ([e.email_id for e in third.emails], third.last_id) == (ids[4:], None)


async def test_only_a_span_of_ids_is_read_when_asked(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    ids = [uuid.UUID(i) for i in await accept(world_of_log, 4)]
    page = await recovery.open_page(after=ids[0], until=ids[2], size=ALL)
    assert [e.email_id for e in page.emails] == [str(i) for i in ids[1:3]]


async def test_what_changed_just_now_is_left_alone_but_passed(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    ids = await accept(world_of_log, 3)
    await age(world_of_log)
    await world_of_log.change(ids[1], "updated_at = now()")
    page = await recovery.open_page(older_than=MINUTE, size=2)
    assert [e.email_id for e in page.emails] == [ids[0]]
    assert str(page.last_id) == ids[1]


async def test_ended_and_expired_emails_need_no_place(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    _, waiting = await accept(world_of_log, 2)
    await world_of_log.rejected()
    (expired,) = await accept(world_of_log)
    await world_of_log.change(expired, "expire_at = now()")
    (_,) = await accept(world_of_log, expire_at=datetime.now(UTC) + HOUR)
    emails = [e.email_id for e in await open_emails(recovery)]
    assert len(emails) == 3
    assert waiting in emails
    assert expired not in emails


async def test_emails_of_an_open_send_are_told_with_its_first(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    a, b, c = await accept(world_of_log, 3)
    await world_of_log.claimed(b, a)
    assert await open_emails(recovery) == [OpenEmail(a, b), OpenEmail(b, b), OpenEmail(c)]


async def test_an_expired_email_of_an_open_send_needs_its_place(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    (email_id,) = await accept(world_of_log)
    await world_of_log.claimed(email_id)
    await world_of_log.change(email_id, "expire_at = now()")
    assert await open_emails(recovery) == [OpenEmail(email_id, email_id)]


async def test_open_emails_are_counted(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    await accept(world_of_log, 3)
    await world_of_log.rejected()
    assert await recovery.count_open() == 3


# What is needed to put them back


async def load_one(recovery: RecoveryLog, email_id: str) -> QueuedEmail:
    (emails, sends) = await recovery.load([email_id])
    assert sends == []
    (email,) = emails
    return email


async def test_an_email_is_loaded_as_it_was_accepted(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    expire_at = datetime.now(UTC) + HOUR
    (email_id,) = await accept(world_of_log, priority="LOW", kind="QUOTA_WARNING", expire_at=expire_at)
    email = await load_one(recovery, email_id)
    assert email == QueuedEmail(
        email_id=email_id,
        kind="QUOTA_WARNING",
        lane=Lane.LOW,
        accepted_at=(await world_of_log.email(email_id))["created_at"],
        expire_at=expire_at,
        content=CONTENT,
        alone=False,
        size_bytes=len(MESSAGE),
    )


async def test_large_content_stays_in_the_log_and_its_email_goes_alone(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    (email_id,) = await accept(world_of_log, message=LARGE)
    email = await load_one(recovery, email_id)
    assert (email.content, email.alone, email.size_bytes) == (None, True, len(LARGE))


async def test_an_email_that_must_go_alone_says_so(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    (email_id,) = await accept(world_of_log)
    await world_of_log.change(email_id, "alone = true")
    assert (await load_one(recovery, email_id)).alone


@pytest.mark.parametrize("column", ["next_attempt_at", "send_at"])
async def test_an_email_that_is_not_due_is_loaded_with_its_delay(
    world_of_log: LogWorld, recovery: RecoveryLog, column: str
) -> None:
    (email_id,) = await accept(world_of_log)
    await world_of_log.change(email_id, f"{column} = now() + interval '1 hour'")
    assert timedelta(minutes=59) < (await load_one(recovery, email_id)).delay <= HOUR
    await world_of_log.change(email_id, f"{column} = now() - interval '1 hour'")
    assert (await load_one(recovery, email_id)).delay == timedelta()


async def test_what_has_ended_or_expired_meanwhile_is_not_loaded(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    ended, expired = await accept(world_of_log, 2)
    rejected, _ = await world_of_log.rejected(ended)
    await world_of_log.change(expired, "expire_at = now()")
    assert await recovery.load([rejected, expired, str(uuid.uuid4())]) == ([], [])


async def test_content_that_cannot_be_read_holds_nobody_up(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    (bad,) = await accept(world_of_log, message=b"\xff")
    (good,) = await accept(world_of_log)
    with structlog.testing.capture_logs() as logs:
        emails, _ = await recovery.load([bad, good])
    assert {e.email_id: (e.content is None, e.alone) for e in emails} == {bad: (True, True), good: (False, False)}
    assert [(entry["event"], entry["email_id"]) for entry in logs] == [("content_unreadable", bad)]


async def test_a_send_is_loaded_with_its_emails_in_order_and_waits_for_its_lease(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    a, b, c = await accept(world_of_log, 3)
    await world_of_log.claimed(c, a, b)
    emails, (send,) = await recovery.load([a, b])
    assert emails == []
    assert send.email_ids == (c, a, b)
    assert timedelta(seconds=50) < send.delay <= MINUTE


async def test_a_send_whose_lease_is_free_waits_for_its_next_attempt(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    (email_id,) = await accept(world_of_log)
    await world_of_log.retrying(email_id, delay=HOUR)
    _, (send,) = await recovery.load([email_id])
    assert timedelta(minutes=59) < send.delay <= HOUR
    await world_of_log.change(email_id, "next_attempt_at = now() - interval '1 s'")
    assert await recovery.load([email_id]) == ([], [OpenSend((email_id,), timedelta())])


async def test_of_a_send_only_open_emails_matter_and_its_first(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    a, b, c = await accept(world_of_log, 3)
    await world_of_log.retrying(a, b, c, delay=timedelta())
    for ended in (a, b):
        await world_of_log.change(ended, "status = 'SUCCESS', ended_at = now(), message = NULL")
    _, (send,) = await recovery.load([c])
    assert send.email_ids == (a, c)


async def test_a_send_that_is_dead_is_none(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    (email_id,) = await accept(world_of_log)
    await world_of_log.buried(email_id)
    await world_of_log.change(email_id, "status = 'QUEUED', ended_at = NULL")
    emails, sends = await recovery.load([email_id])
    assert ([e.email_id for e in emails], sends) == ([email_id], [])
    assert await open_emails(recovery) == [OpenEmail(email_id)]


# Emails that need no place


async def test_ended_and_unknown_emails_are_gone(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    (waiting,) = await accept(world_of_log)
    rejected, _ = await world_of_log.rejected()
    unknown = str(uuid.uuid4())
    gone = await recovery.gone([waiting, rejected, unknown], older_than=timedelta())
    assert sorted(gone) == sorted([rejected, unknown])


async def test_an_email_that_ended_just_now_is_left_to_whoever_ended_it(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    rejected, _ = await world_of_log.rejected()
    assert await recovery.gone([rejected], older_than=MINUTE) == []
    await age(world_of_log)
    assert await recovery.gone([rejected], older_than=MINUTE) == [rejected]


async def test_an_ended_email_of_an_open_send_is_not_gone(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    a, b = await accept(world_of_log, 2)
    await world_of_log.retrying(a, b)
    await world_of_log.change(a, "status = 'SUCCESS', ended_at = now(), message = NULL")
    assert await recovery.gone([a, b], older_than=timedelta()) == []


# Expiry


async def test_expired_emails_end(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    expired, waiting = await accept(world_of_log, 2, lifetime=HOUR)
    await world_of_log.change(expired, "expire_at = now(), next_attempt_at = now()")
    assert await recovery.expire(size=10) == ([expired], False)
    row = await world_of_log.email(expired)
    assert (row["status"], row["message"], row["next_attempt_at"]) == ("EXPIRED", None, None)
    assert row["ended_at"] is not None
    assert "expired before it was sent" in row["last_error"]
    assert await world_of_log.events(expired) == ["ACCEPTED", "EXPIRED"]
    assert (await world_of_log.email(waiting))["status"] == "QUEUED"
    assert await recovery.expire(size=10) == ([], False)


async def test_an_expired_email_of_an_open_send_is_left_to_whoever_repeats_it(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    sending, retrying = await accept(world_of_log, 2, lifetime=HOUR)
    await world_of_log.claimed(sending)
    await world_of_log.retrying(retrying)
    await world_of_log.pool.execute("UPDATE email_send_log SET expire_at = now()")
    before = await world_of_log.snapshot()
    assert await recovery.expire(size=10) == ([], False)
    assert await world_of_log.snapshot() == before


async def test_many_expired_emails_end_a_page_at_a_time(world_of_log: LogWorld, recovery: RecoveryLog) -> None:
    await accept(world_of_log, 5, lifetime=HOUR)
    await world_of_log.pool.execute("UPDATE email_send_log SET expire_at = now()")
    pages = [await recovery.expire(size=2) for _ in range(3)]
    assert [(len(ended), more) for ended, more in pages] == [(2, True), (2, True), (1, False)]


async def test_expired_emails_of_open_sends_keep_no_others_from_ending(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    sending, waiting = await accept(world_of_log, 2, lifetime=HOUR)
    await world_of_log.claimed(sending)
    await world_of_log.change(sending, "expire_at = now() - interval '1 hour'")
    await world_of_log.change(waiting, "expire_at = now()")
    assert await recovery.expire(size=1) == ([waiting], True)


async def test_an_email_that_is_claimed_at_the_same_moment_does_not_expire(
    world_of_log: LogWorld, recovery: RecoveryLog
) -> None:
    (email_id,) = await accept(world_of_log, lifetime=HOUR)
    async with world_of_log.pool.acquire() as connection, connection.transaction():
        await connection.execute("UPDATE email_send_log SET status = 'SENDING', expire_at = now() + interval '1 hour'")
        await world_of_log.pool.fetchval("SELECT 1")
        work = asyncio.create_task(recovery.expire(size=10))
        await world_of_log.until_blocked(work)
    assert await work == ([], False)
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


# A PostgreSQL that is away


async def test_a_postgres_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://nobody@127.0.0.1:{free_port()}/none", max_size=1) as pool:
        for call in (RecoveryLog(pool).open_page(size=1), RecoveryLetterLog(pool).open_page(None, size=1)):
            with pytest.raises(LogUnavailableError):
                await call


def test_what_is_loaded_at_once_is_bounded() -> None:
    assert LOAD_EMAILS * 64 * 1024 <= 8 * 1024 * 1024
