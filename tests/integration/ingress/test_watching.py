"""WatchEmails: nothing is missed, a reader's pace is its own, and every end says how to go on."""

import asyncio
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import grpc
import pytest
from google.rpc.error_details_pb2 import BadRequest, RetryInfo
from grpc_status import rpc_status
from integration.core.log_builder import LogWorld, accepted
from integration.ingress.served import Served, serving
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import WatchEmailsRequest, WatchEmailsResponse
from sred_email_core.email_send_log.events import EventLog, Position
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.retention import BEGINNING, RetentionLog
from sred_email_core.postgres import open_pool
from sred_email_ingress.event_bell import EventBell
from sred_email_ingress.watching import MAX_WATCHED, write_token
from support.tcp_proxy import TcpProxy
from support.world import until

SENDING, QUEUED = email_pb2.EMAIL_STATUS_SENDING, email_pb2.EMAIL_STATUS_QUEUED
RETRYING, SUCCESS, CANCELLED = (
    email_pb2.EMAIL_STATUS_RETRYING,
    email_pb2.EMAIL_STATUS_SUCCESS,
    email_pb2.EMAIL_STATUS_CANCELLED,
)


@pytest.fixture
async def served(pool: "asyncpg.Pool[Any]", redis: Redis) -> AsyncIterator[Served]:
    """An ingress with an empty log."""
    async with serving(pool, redis) as it:
        yield it


@pytest.fixture
def log(pool: "asyncpg.Pool[Any]") -> LogWorld:
    """What becomes of its emails."""
    return LogWorld(pool)


class Watcher:
    """A call of WatchEmails."""

    def __init__(self, served: Served, *email_ids: str, resume_token: str = "") -> None:
        request = WatchEmailsRequest(email_ids=email_ids, resume_token=resume_token)
        self.call = served.stub.WatchEmails(request, timeout=60)
        self.token = resume_token

    async def begun(self) -> "Watcher":
        """Wait until it has begun: nothing is missed from then on."""
        headers = dict(await self.call.initial_metadata() or ())
        self.token = str(headers.get("resume-token", self.token))
        return self

    async def next(self) -> email_pb2.EmailEvent:
        """The next event."""
        response = await asyncio.wait_for(self.call.read(), 10)
        assert isinstance(response, WatchEmailsResponse), response
        self.token = response.resume_token
        return response.event

    async def statuses(self, count: int) -> list[tuple[str, int]]:
        """Email and status of the next events."""
        return [(event.email_id, event.status) for event in [await self.next() for _ in range(count)]]

    async def end(self) -> grpc.aio.AioRpcError:
        """How it ends, whatever it tells before."""
        while True:
            try:
                await asyncio.wait_for(self.call.read(), 10)
            except grpc.aio.AioRpcError as e:
                return e


def field_of(error: grpc.aio.AioRpcError) -> list[str]:
    """The fields that a refusal names."""
    bad = BadRequest()
    status = rpc_status.from_call(error)  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


async def test_of_named_emails_the_present_state_comes_first_and_then_what_happens(
    served: Served, log: LogWorld
) -> None:
    one, two, other = await log.accept(3)
    claim = await log.claimed(two)
    watcher = Watcher(served, two, one)
    assert await watcher.statuses(2) == [(two, SENDING), (one, QUEUED)]
    await log.rejected(other)
    await log.log.record_answers([accepted(claim.send_id, two)])
    event = await watcher.next()
    assert (event.email_id, event.status, event.attempt) == (two, SUCCESS, 1)
    assert event.provider_message_id == f"provider-{two}"
    assert event.delivery == email_pb2.DELIVERY_STATE_SENT
    await log.acceptance.cancel(uuid.UUID(one))
    assert await watcher.statuses(1) == [(one, CANCELLED)]
    watcher.call.cancel()


async def test_without_a_name_all_emails_are_watched_from_now_on_and_sending_is_no_event(
    served: Served, log: LogWorld
) -> None:
    await log.rejected()
    watcher = await Watcher(served).begun()
    (email_id,) = await log.accept()
    claim = await log.claimed(email_id)
    await log.fail(claim, FailureAction.RETRY, error="no answer in time")
    assert await watcher.statuses(1) == [(email_id, QUEUED)]
    event = await watcher.next()
    assert (event.status, event.attempt, event.reason) == (RETRYING, 1, "no answer in time")
    watcher.call.cancel()


async def test_hazard_26_two_transactions_that_commit_out_of_order_are_both_told(served: Served, log: LogWorld) -> None:
    older, younger = await log.accept(2)
    watcher = await Watcher(served).begun()
    tell = "INSERT INTO email_events (email_id, what, status) VALUES ($1, 'CANCELLED', 'CANCELLED')"
    async with log.pool.acquire() as connection, connection.transaction():
        await connection.execute(tell, uuid.UUID(older))
        await log.pool.execute(tell, uuid.UUID(younger))
        (third,) = await log.accept()
        await served.events.until_looked()
    assert sorted(await watcher.statuses(3)) == sorted([(older, CANCELLED), (younger, CANCELLED), (third, QUEUED)])
    watcher.call.cancel()


async def many_events(log: LogWorld) -> None:
    """More than a connection holds for a caller who does not read."""
    await log.pool.execute(
        "DO $$ BEGIN FOR n IN 1..50 LOOP"
        " INSERT INTO email_events (email_id, what, status) SELECT gen_random_uuid(), 'ACCEPTED', 'QUEUED'"
        " FROM generate_series(1, 200); COMMIT; END LOOP; END $$"
    )


async def test_a_token_goes_on_after_its_event_and_nothing_is_missed_meanwhile(served: Served, log: LogWorld) -> None:
    watcher = await Watcher(served).begun()
    emails = await log.accept(5)
    told = await watcher.statuses(2)
    watcher.call.cancel()
    late = await log.accept(2)
    again = await Watcher(served, resume_token=watcher.token).begun()
    told += await again.statuses(5)
    assert sorted(told) == sorted((email_id, QUEUED) for email_id in [*emails, *late])
    rest = [email_id for email_id, _ in told[2:]]
    named = Watcher(served, *rest[::2], resume_token=watcher.token)
    assert await named.statuses(3) == [(email_id, QUEUED) for email_id in rest[::2]]
    again.call.cancel()
    named.call.cancel()


async def test_a_watch_that_ended_before_its_first_event_goes_on_with_the_token_of_its_headers(
    served: Served, log: LogWorld
) -> None:
    watcher = await Watcher(served).begun()
    watcher.call.cancel()
    (email_id,) = await log.accept()
    again = await Watcher(served, resume_token=watcher.token).begun()
    assert again.token == watcher.token
    assert await again.statuses(1) == [(email_id, QUEUED)]
    again.call.cancel()
    named = await Watcher(served, email_id).begun()
    assert named.token == ""  # its state is still to be told
    named.call.cancel()


async def test_the_token_of_a_state_goes_on_after_it(served: Served, log: LogWorld) -> None:
    (email_id,) = await log.accept()
    watcher = Watcher(served, email_id)
    await watcher.next()
    watcher.call.cancel()
    await log.acceptance.cancel(uuid.UUID(email_id))
    again = Watcher(served, email_id, resume_token=watcher.token)
    assert await again.statuses(1) == [(email_id, CANCELLED)]
    again.call.cancel()


async def test_what_the_present_state_shows_already_is_not_told_after_it(served: Served, log: LogWorld) -> None:
    async with log.pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT pg_current_xact_id()")  # an older transaction holds all events back
        (email_id,) = await log.accept()
        await log.acceptance.cancel(uuid.UUID(email_id))
        watcher = Watcher(served, email_id)
        assert await watcher.statuses(1) == [(email_id, CANCELLED)]
    await log.pool.execute(
        "INSERT INTO email_events (email_id, what, status) VALUES ($1, 'REPLAYED', 'QUEUED')", uuid.UUID(email_id)
    )
    assert await watcher.statuses(1) == [(email_id, QUEUED)]
    watcher.call.cancel()


async def test_who_does_not_read_gets_everything_later_and_costs_no_more_than_a_page(
    served: Served, log: LogWorld
) -> None:
    watcher = await Watcher(served).begun()
    await many_events(log)
    await served.events.until_looked()
    assert served.events.pages < 35  # of 50: what fits into the windows of the connection
    told = {event.email_id for event in [await watcher.next() for _ in range(10_000)]}
    assert len(told) == 10_000
    assert served.events.pages >= 50
    watcher.call.cancel()


async def test_bad_ids_unknown_ids_and_bad_tokens_are_refused_by_name(served: Served, log: LogWorld) -> None:
    (email_id,) = await log.accept()
    error = await Watcher(served, email_id, "nonsense").end()
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["email_ids[1]"])
    error = await Watcher(served, *[email_id] * (MAX_WATCHED + 1)).end()
    assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["email_ids"])
    assert (await Watcher(served, email_id, str(uuid.uuid4())).end()).code() is grpc.StatusCode.NOT_FOUND
    good = write_token(Position(5, 5))
    for token in ("nonsense", "ÿ", good[:-1], good[:-1] + "~", good + "A", "A" * 36, "A" * 10_000):
        error = await Watcher(served, resume_token=token).end()
        assert (error.code(), field_of(error)) == (grpc.StatusCode.INVALID_ARGUMENT, ["resume_token"]), token


async def test_a_token_from_before_what_was_pruned_is_out_of_range(served: Served, log: LogWorld) -> None:
    watcher = await Watcher(served).begun()
    (email_id,) = await log.accept()
    await watcher.next()
    await log.accept()
    await watcher.next()
    watcher.call.cancel()
    await log.pool.execute("UPDATE email_events SET at = at - interval '2 d'")
    await log.pool.execute(
        "UPDATE email_send_log SET created_at = now() - interval '2 d', ended_at = now() - interval '2 d'"
    )
    gone = await RetentionLog(log.pool).forget_emails(older_than=timedelta(days=1), after=BEGINNING, size=10)
    assert gone.emails == 2
    for token in (watcher.token, write_token(Position(1 << 60, 1))):
        assert (await Watcher(served, resume_token=token).end()).code() is grpc.StatusCode.OUT_OF_RANGE
    assert email_id


async def test_a_stop_ends_every_watch_at_once_also_one_that_nobody_reads(served: Served, log: LogWorld) -> None:
    (email_id,) = await log.accept()
    watchers = [await Watcher(served).begun(), await Watcher(served, email_id).begun()]
    stalled = await Watcher(served).begun()
    await many_events(log)
    served.stop.set()
    async with asyncio.timeout(3):
        await served.guard.drain(timedelta(seconds=30))
    for watcher in watchers:
        assert (await watcher.end()).code() is grpc.StatusCode.UNAVAILABLE
    assert (await stalled.end()).code() is grpc.StatusCode.UNAVAILABLE


async def test_while_postgres_is_away_watches_end_with_when_to_come_again_and_nothing_is_missed(
    dsn: str, redis: Redis, log: LogWorld
) -> None:
    port = urlsplit(dsn).port
    assert port is not None
    async with AsyncExitStack() as stack:
        proxy = await stack.enter_async_context(TcpProxy(port))
        pool = await stack.enter_async_context(open_pool(dsn.replace(f":{port}/", f":{proxy.port}/"), max_size=3))
        served = await stack.enter_async_context(serving(pool, redis))
        watcher = await Watcher(served).begun()
        (first,) = await log.accept()
        assert await watcher.statuses(1) == [(first, QUEUED)]
        await proxy.refuse()
        for ended in (await watcher.end(), await Watcher(served).end()):
            assert ended.code() is grpc.StatusCode.UNAVAILABLE
            status = rpc_status.from_call(ended)  # type: ignore[arg-type]
            assert status is not None
            assert status.details[0].Is(RetryInfo.DESCRIPTOR)
        (second,) = await log.accept()
        await proxy.resume()
        again = Watcher(served, resume_token=watcher.token)
        assert await again.statuses(1) == [(second, QUEUED)]
        again.call.cancel()


async def test_nobody_looks_when_nobody_watches(pool: "asyncpg.Pool[Any]") -> None:
    bell = EventBell(EventLog(pool), interval=timedelta(milliseconds=1))
    assert not bell.looking
    with bell.waiting(None) as waiter, bell.waiting([uuid.uuid4()]):
        await waiter.wait()
        assert bell.looking
        assert bell.watched == 1

    async def silent() -> bool:
        return not bell.looking

    await until(silent, "the bell has stopped")
    assert bell.watched == 0


async def test_watches_that_begin_together_do_not_pass_the_most_that_there_may_be(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sred_email_ingress.watching.MAX_WATCHES", 3)
    watchers = [Watcher(served) for _ in range(8)]
    ends = [asyncio.create_task(watcher.end()) for watcher in watchers]

    async def refusals() -> list[grpc.aio.AioRpcError]:
        ended = [end.result() for end in ends if end.done()]
        return ended if len(ended) >= 5 else []

    refused = await until(refusals, "five of eight are refused")
    assert [error.code() for error in refused] == [grpc.StatusCode.RESOURCE_EXHAUSTED] * 5
    for watcher in watchers:
        watcher.call.cancel()
    await asyncio.wait(ends)
