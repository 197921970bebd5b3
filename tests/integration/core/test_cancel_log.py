"""Cancelling in the log: only what nothing can have been sent of, whoever else is at it."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import asyncpg
import pytest
from integration.core.log_builder import HOUR, NO_TIME, LogWorld, send_of

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.records import Claim, FailureAction, RepeatState
from sred_email_core.errors import CancelObstacle, EmailNotFoundError, LogUnavailableError, NotCancellableError
from sred_email_core.postgres import open_pool
from sred_email_local.ports import free_port


class Paused:
    """The connection of a transaction that a test ends: what runs on it has taken its locks, and is not committed."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[Any]:
        yield self._connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)


@asynccontextmanager
async def uncommitted(log: LogWorld) -> AsyncIterator[LogWorld]:
    """A log whose work is committed when the context ends."""
    async with log.pool.acquire() as connection, connection.transaction(isolation="read_committed"):
        yield LogWorld(cast("asyncpg.Pool[Any]", Paused(connection)))


async def obstacle(log: LogWorld, email_id: str) -> CancelObstacle:
    """Why an email can't be cancelled; nothing of it was touched."""
    before = await log.snapshot()
    with pytest.raises(NotCancellableError) as refused:
        await log.acceptance.cancel(uuid.UUID(email_id))
    assert await log.snapshot() == before
    assert refused.value.status == (await log.email(email_id))["status"]
    return refused.value.obstacle


async def test_an_email_that_waits_is_cancelled_and_its_content_erased(world_of_log: LogWorld) -> None:
    email_id, neighbour = await world_of_log.accept(2)
    cancelled = await world_of_log.acceptance.cancel(uuid.UUID(email_id))
    row = await world_of_log.email(email_id)
    assert (row["status"], row["message"], row["next_attempt_at"]) == ("CANCELLED", None, None)
    assert row["ended_at"] == row["updated_at"] > row["created_at"]
    assert (str(cancelled.id), cancelled.status, cancelled.updated_at) == (email_id, "CANCELLED", row["ended_at"])
    assert cancelled == await world_of_log.acceptance.get(email_id=uuid.UUID(email_id))
    assert await world_of_log.events(email_id) == ["ACCEPTED", "CANCELLED"]
    assert (await world_of_log.email(neighbour))["status"] == "QUEUED"


async def test_an_email_that_waits_alone_for_its_retry_is_cancelled(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.fail(await world_of_log.claimed(email_id), FailureAction.RELEASE, delay=HOUR)
    assert (await world_of_log.email(email_id))["next_attempt_at"] is not None
    assert (await world_of_log.acceptance.cancel(uuid.UUID(email_id))).next_attempt_at is None
    assert (await world_of_log.email(email_id))["status"] == "CANCELLED"


@pytest.mark.parametrize("status", ["SCHEDULED", "QUEUED", "RETRYING"])
async def test_whatever_an_open_email_waits_for_it_is_cancelled(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}'")
    assert (await world_of_log.acceptance.cancel(uuid.UUID(email_id))).status == "CANCELLED"


async def test_an_email_that_has_expired_and_not_ended_is_cancelled(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, "expire_at = now() - interval '1 h'")
    assert (await world_of_log.acceptance.cancel(uuid.UUID(email_id))).status == "CANCELLED"


async def test_a_cancelled_email_is_never_claimed(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.acceptance.cancel(uuid.UUID(email_id))
    (refused,) = await world_of_log.log.claim([send_of(email_id)])
    assert isinstance(refused, dict)
    assert (refused[email_id].status, refused[email_id].ended) == ("CANCELLED", True)


async def test_what_is_being_sent_is_not_cancelled(world_of_log: LogWorld) -> None:
    emails = await world_of_log.accept(2)
    await world_of_log.claimed(*emails)
    for email_id in emails:
        assert await obstacle(world_of_log, email_id) is CancelObstacle.BEING_SENT


async def test_what_may_have_been_accepted_is_not_cancelled(world_of_log: LogWorld) -> None:
    emails = await world_of_log.accept(2)
    claim = await world_of_log.retrying(*emails, delay=HOUR)
    for email_id in emails:
        assert (await world_of_log.email(email_id))["status"] == "RETRYING"
        assert await obstacle(world_of_log, email_id) is CancelObstacle.MAY_HAVE_BEEN_ACCEPTED
    await world_of_log.pool.execute("UPDATE email_send_log SET next_attempt_at = now()")
    await world_of_log.repeated(emails[0])
    assert await obstacle(world_of_log, emails[0]) is CancelObstacle.BEING_SENT
    await world_of_log.pool.execute("UPDATE email_sends SET lease_expires_at = now() WHERE id = $1", claim.send_id)
    assert await obstacle(world_of_log, emails[0]) is CancelObstacle.MAY_HAVE_BEEN_ACCEPTED  # its owner died


async def test_a_claim_that_was_undone_stands_in_nobodys_way(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.log.undo_claims([await world_of_log.claimed(email_id)])
    assert (await world_of_log.acceptance.cancel(uuid.UUID(email_id))).status == "CANCELLED"


@pytest.mark.parametrize("status", ["SUCCESS", "FAILED", "CANCELLED", "EXPIRED", "SUPPRESSED"])
async def test_what_has_ended_is_not_cancelled(world_of_log: LogWorld, status: str) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.change(email_id, f"status = '{status}', ended_at = now()")
    assert await obstacle(world_of_log, email_id) is CancelObstacle.HAS_ENDED


async def test_a_dead_letter_keeps_its_content_and_can_not_be_cancelled(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    await world_of_log.buried(email_id)
    assert await obstacle(world_of_log, email_id) is CancelObstacle.HAS_ENDED
    assert (await world_of_log.email(email_id))["message"] == b"message"


async def test_an_email_that_does_not_exist_is_not_found(world_of_log: LogWorld) -> None:
    with pytest.raises(EmailNotFoundError):
        await world_of_log.acceptance.cancel(uuid.uuid4())


async def test_a_server_that_does_not_answer_is_for_later() -> None:
    async with open_pool(f"postgresql://postgres@127.0.0.1:{free_port()}/nothing", max_size=1) as pool:
        with pytest.raises(LogUnavailableError):
            await AcceptanceLog(pool).cancel(uuid.uuid4())
        with pytest.raises(LogUnavailableError):
            await AcceptanceLog(pool).count_open(at_most=1)


async def test_a_claim_that_waited_for_a_cancellation_finds_that_the_email_has_ended(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    async with uncommitted(world_of_log) as first:
        await first.acceptance.cancel(uuid.UUID(email_id))
        claiming = asyncio.create_task(world_of_log.log.claim([send_of(email_id)]))
        await world_of_log.until_blocked(claiming)
        assert not claiming.done()
    ((answer),) = await claiming
    assert isinstance(answer, dict)
    assert (answer[email_id].status, answer[email_id].ended) == ("CANCELLED", True)
    assert await world_of_log.count("email_sends") == 0
    assert await world_of_log.events(email_id) == ["ACCEPTED", "CANCELLED"]


async def test_a_cancellation_that_waited_for_a_claim_finds_that_the_email_is_being_sent(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    async with uncommitted(world_of_log) as first:
        await first.claimed(email_id)
        cancelling = asyncio.create_task(world_of_log.acceptance.cancel(uuid.UUID(email_id)))
        await world_of_log.until_blocked(cancelling)
        assert not cancelling.done()
    with pytest.raises(NotCancellableError) as refused:
        await cancelling
    assert refused.value.obstacle is CancelObstacle.BEING_SENT
    assert (await world_of_log.email(email_id))["status"] == "SENDING"


async def test_a_cancellation_that_waited_for_a_claim_and_its_failure_finds_the_send_that_is_to_be_repeated(
    world_of_log: LogWorld,
) -> None:
    (email_id,) = await world_of_log.accept()
    async with uncommitted(world_of_log) as first:
        claim = await first.claimed(email_id)
        await first.fail(claim, FailureAction.RETRY, delay=NO_TIME)  # RETRYING again, but in a send
        cancelling = asyncio.create_task(world_of_log.acceptance.cancel(uuid.UUID(email_id)))
        await world_of_log.until_blocked(cancelling)
        assert not cancelling.done()
    with pytest.raises(NotCancellableError) as refused:
        await cancelling
    assert refused.value.obstacle is CancelObstacle.MAY_HAVE_BEEN_ACCEPTED
    assert (await world_of_log.repeat(email_id)).state is RepeatState.CLAIMED


async def test_a_cancellation_that_waited_for_a_release_cancels(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    claim = await world_of_log.claimed(email_id)
    async with uncommitted(world_of_log) as first:
        await first.fail(claim, FailureAction.RELEASE, delay=HOUR)
        cancelling = asyncio.create_task(world_of_log.acceptance.cancel(uuid.UUID(email_id)))
        await world_of_log.until_blocked(cancelling)
        assert not cancelling.done()
    assert (await cancelling).status == "CANCELLED"


async def test_of_a_cancellation_and_a_claim_exactly_one_wins_in_every_race(world_of_log: LogWorld) -> None:
    emails = await world_of_log.accept(200)

    async def cancel(email_id: str) -> bool:
        try:
            await world_of_log.acceptance.cancel(uuid.UUID(email_id))
        except NotCancellableError:
            return False
        return True

    async def claim(email_id: str) -> bool:
        (answer,) = await world_of_log.log.claim([send_of(email_id)])
        return isinstance(answer, Claim)

    async def race(email_id: str, number: int) -> tuple[bool, bool]:
        runners = (cancel(email_id), claim(email_id))
        done = await asyncio.gather(*(runners if number % 2 else runners[::-1]))
        return (done[0], done[1]) if number % 2 else (done[1], done[0])

    async with asyncio.timeout(30):
        results = await asyncio.gather(*(race(email_id, number) for number, email_id in enumerate(emails)))
    assert all(cancelled != claimed for cancelled, claimed in results)
    for email_id, (cancelled, _) in zip(emails, results, strict=True):
        assert (await world_of_log.email(email_id))["status"] == ("CANCELLED" if cancelled else "SENDING")
    assert await world_of_log.count("email_send_members") == sum(claimed for _, claimed in results)
    assert {cancelled for cancelled, _ in results} == {True, False}  # else nothing raced


async def test_of_many_cancellations_of_one_email_one_cancels(world_of_log: LogWorld) -> None:
    (email_id,) = await world_of_log.accept()
    calls = (world_of_log.acceptance.cancel(uuid.UUID(email_id)) for _ in range(20))
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert sum(isinstance(result, NotCancellableError) for result in results) == 19
    assert await world_of_log.events(email_id) == ["ACCEPTED", "CANCELLED"]


async def test_a_server_whose_default_isolation_is_stricter_cancels_all_the_same(
    dsn: str, world_of_log: LogWorld
) -> None:
    (email_id,) = await world_of_log.accept()
    database = dsn.rsplit("/", 1)[1]
    await world_of_log.pool.execute(f'ALTER DATABASE "{database}" SET default_transaction_isolation = serializable')
    async with open_pool(dsn, max_size=1, command_timeout=timedelta(seconds=5)) as fresh:
        assert await fresh.fetchval("SHOW transaction_isolation") == "serializable"
        assert (await AcceptanceLog(fresh).cancel(uuid.UUID(email_id))).status == "CANCELLED"
