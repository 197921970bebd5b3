"""ListEmails: the filters, the order, and pages that stay right while emails arrive and change."""

import asyncio
import itertools
import json
import uuid
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status
from integration.core.log_builder import LogWorld, accepted
from integration.ingress.served import Served, serving
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import GetEmailRequest, ListEmailsRequest, ListEmailsResponse
from sred_email_core.email_send_log.listing import EmailList
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.sql import query
from sred_email_ingress.listing import EmailListing

START = datetime(2026, 3, 1, tzinfo=UTC)
QUEUED, SENDING = email_pb2.EMAIL_STATUS_QUEUED, email_pb2.EMAIL_STATUS_SENDING
RETRYING, SUCCESS = email_pb2.EMAIL_STATUS_RETRYING, email_pb2.EMAIL_STATUS_SUCCESS
FAILED, CANCELLED = email_pb2.EMAIL_STATUS_FAILED, email_pb2.EMAIL_STATUS_CANCELLED


@pytest.fixture
async def served(pool: "asyncpg.Pool[Any]", redis: Redis) -> AsyncIterator[Served]:
    """An ingress with an empty log."""
    async with serving(pool, redis) as it:
        yield it


@pytest.fixture
def log(pool: "asyncpg.Pool[Any]") -> LogWorld:
    """What becomes of its emails."""
    return LogWorld(pool)


def at(minutes: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(START + timedelta(minutes=minutes))
    return stamp


async def listed(served: Served, **filters: Any) -> ListEmailsResponse:
    """One page."""
    response = await served.stub.ListEmails(ListEmailsRequest(**filters), timeout=10)
    assert isinstance(response, ListEmailsResponse)
    return response


async def ids(served: Served, **filters: Any) -> list[str]:
    """All that is listed, by pages."""
    found: list[str] = []
    token = ""
    while True:
        page = await listed(served, page_token=token, **filters)
        found += [email.email_id for email in page.emails]
        token = page.next_page_token
        if not token:
            return found


async def refused(served: Served, **filters: Any) -> list[str]:
    """The fields that a refusal names."""
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await listed(served, **filters)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = BadRequest()
    status = rpc_status.from_call(error.value)  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(bad)
    return [violation.field for violation in bad.field_violations]


async def accepted_each_minute(log: LogWorld, count: int, **fields: Any) -> list[str]:
    """Emails accepted a minute apart, the newest first."""
    emails = await log.accept(count, **fields)
    for minute, email_id in enumerate(emails):
        await log.pool.execute(
            "UPDATE email_send_log SET created_at = $2 WHERE id = $1", uuid.UUID(email_id), START + minute * MINUTE
        )
    return emails[::-1]


MINUTE = timedelta(minutes=1)


@pytest.mark.parametrize("page_size", [1, 2, 3, 7, 100])
async def test_pages_of_any_size_list_each_email_once_the_newest_first(
    served: Served, log: LogWorld, page_size: int
) -> None:
    emails = await accepted_each_minute(log, 7)
    assert await ids(served, page_size=page_size) == emails


async def test_emails_accepted_at_the_same_moment_are_listed_once_each(served: Served, log: LogWorld) -> None:
    emails = await log.accept(9)
    await log.pool.execute("UPDATE email_send_log SET created_at = $1", START)
    assert await ids(served, page_size=2) == sorted(emails, reverse=True)


async def test_pages_stay_right_while_emails_arrive_and_change(served: Served, log: LogWorld) -> None:
    emails = await accepted_each_minute(log, 6)
    found: list[str] = []
    token = ""
    for step in itertools.count():
        page = await listed(served, page_size=2, page_token=token)
        found += [email.email_id for email in page.emails]
        token = page.next_page_token
        if not token:
            break
        await log.accept(3)  # newer than what was listed
        await log.acceptance.cancel(uuid.UUID(emails[step]))
    assert found == emails
    assert len(await ids(served)) == 6 + 3 * step


async def test_each_status_lists_its_emails_and_several_list_them_together(served: Served, log: LogWorld) -> None:
    (queued,) = await log.accept()
    (sending,) = await log.accept()
    await log.claimed(sending)
    (retrying,) = await log.accept()
    await log.retrying(retrying)
    (sent,) = await log.accept()
    claim = await log.claimed(sent)
    await log.log.record_answers([accepted(claim.send_id, sent)])
    failed, _ = await log.rejected()
    (cancelled,) = await log.accept()
    await log.acceptance.cancel(uuid.UUID(cancelled))
    (late,) = await log.accept()
    claim = await log.claimed(late)
    await log.fail(claim, FailureAction.BURY)
    await log.log.record_answers([accepted(claim.send_id, late)])
    by_status = {
        QUEUED: [queued],
        SENDING: [sending],
        RETRYING: [retrying],
        SUCCESS: [late, sent],
        FAILED: [failed],
        CANCELLED: [cancelled],
        email_pb2.EMAIL_STATUS_EXPIRED: [],
        email_pb2.EMAIL_STATUS_SUPPRESSED: [],
        email_pb2.EMAIL_STATUS_SCHEDULED: [],
    }
    for status, emails in by_status.items():
        assert await ids(served, statuses=[status]) == emails, status
    assert await ids(served, statuses=[QUEUED, RETRYING, FAILED, FAILED], page_size=1) == [failed, retrying, queued]
    assert await ids(served, statuses=[SUCCESS, CANCELLED], page_size=1) == [late, cancelled, sent]
    assert await ids(served, statuses=[s for s in email_pb2.EmailStatus.values() if s]) == await ids(served)


async def test_a_recipient_is_found_wherever_it_stands_and_however_it_is_written(served: Served, log: LogWorld) -> None:
    (alone,) = await log.accept(recipients=["Ada@example.com"])
    (second,) = await log.accept(recipients=["grace@example.com", "Ada@example.com"])
    await log.accept(recipients=["other@example.com"])
    await log.rejected(alone)
    for written in ("Ada@example.com", "Ada@EXAMPLE.com", "Ada Lovelace <Ada@example.com>"):
        assert await ids(served, recipient=written, page_size=1) == [second, alone]
    assert await ids(served, recipient="ada@example.com") == []  # another mailbox, as far as anybody but its host knows
    assert await ids(served, recipient="grace@example.com") == [second]
    assert await ids(served, recipient="Ada@example.com", statuses=[FAILED]) == [alone]
    assert await ids(served, recipient="Ada@example.com", kind=email_pb2.EMAIL_KIND_QUOTA_WARNING) == []


async def test_a_kind_and_a_time_bound_what_is_listed(served: Served, log: LogWorld) -> None:
    emails = await accepted_each_minute(log, 5)
    warnings = await accepted_each_minute(log, 5, kind="QUOTA_WARNING")
    warning = email_pb2.EMAIL_KIND_QUOTA_WARNING
    assert await ids(served, kind=warning, page_size=2) == warnings
    assert await ids(served, kind=email_pb2.EMAIL_KIND_WELCOME) == emails
    bounds = {"created_after": at(1), "created_before": at(3)}
    assert await ids(served, kind=warning, **bounds) == warnings[2:4]  # at or after, and before
    assert await ids(served, **bounds, page_size=1) == [warnings[2], emails[2], warnings[3], emails[3]]
    assert await ids(served, statuses=[QUEUED], kind=warning, **bounds) == warnings[2:4]
    assert await ids(served, recipient="b@example.com", kind=warning, **bounds) == warnings[2:4]
    finely = at(1)
    finely.nanos += 1
    assert await ids(served, kind=warning, created_after=finely, created_before=at(3)) == [warnings[2]]
    assert await ids(served, created_after=at(3), created_before=at(1)) == []
    everything = {
        "created_after": Timestamp(seconds=-62_135_596_800),
        "created_before": Timestamp(seconds=253_402_300_799),
    }
    assert len(await ids(served, **everything)) == 10


async def test_a_page_has_50_emails_unless_asked_for_more_and_500_at_the_most(served: Served, log: LogWorld) -> None:
    await log.accept(501)
    assert [len((await listed(served, page_size=size)).emails) for size in (0, 500, 2_000_000_000)] == [50, 500, 500]


async def test_an_email_is_listed_as_it_is_told_alone(served: Served, log: LogWorld) -> None:
    (email_id,) = await log.accept()
    (email,) = (await listed(served)).emails
    assert email == (await served.stub.GetEmail(GetEmailRequest(email_id=email_id), timeout=5)).email


async def test_a_token_is_good_for_its_own_filters_only(served: Served, log: LogWorld) -> None:
    await log.accept(5, recipients=["a@example.com"])
    filters: dict[str, Any] = {"statuses": [QUEUED, SENDING], "recipient": "a@example.com", "created_after": at(0)}
    token = (await listed(served, **filters, page_size=2)).next_page_token
    same = {**filters, "statuses": [SENDING, QUEUED, SENDING], "recipient": "A <a@EXAMPLE.com>"}
    assert len((await listed(served, **same, page_size=10, page_token=token)).emails) == 3
    for other in (
        {**filters, "statuses": [QUEUED]},
        {**filters, "recipient": "b@example.com"},
        {**filters, "created_after": at(1)},
        {**filters, "created_before": at(1)},
        {**filters, "kind": email_pb2.EMAIL_KIND_WELCOME},
        {},
    ):
        assert await refused(served, **other, page_token=token) == ["page_token"]
    for bad in ("nonsense", token[:-1], "B" + token[1:], token + "=", "ÿ", "A" * 48, "A" * 100_000):
        assert await refused(served, **filters, page_token=bad) == ["page_token"], bad


async def test_bad_filters_are_refused_each_by_its_name(served: Served) -> None:
    assert await refused(
        served,
        statuses=[QUEUED, 0, 99],
        kind=99,
        recipient="nobody",
        created_after=Timestamp(seconds=-(1 << 62)),
        created_before=Timestamp(nanos=-1),
        page_size=-1,
        page_token="nonsense",
    ) == [
        *("statuses[1]", "statuses[2]", "kind", "recipient", "created_after", "created_before", "page_size"),
    ]
    assert await refused(served, statuses=[QUEUED] * 1000) == ["statuses"]
    assert await refused(served, page_size=-1) == ["page_size"]


async def test_no_index_of_the_log_names_a_column_that_changes_while_an_email_is_open(
    pool: "asyncpg.Pool[Any]",
) -> None:
    """So that QUEUED → SENDING → RETRYING touches no index (HOT)."""
    rows = await pool.fetch(
        "SELECT DISTINCT a.attname FROM pg_index i"
        " JOIN pg_depend d ON d.objid = i.indexrelid AND d.refobjid = i.indrelid AND d.refobjsubid > 0"
        " JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = d.refobjsubid"
        " WHERE i.indrelid = 'email_send_log'::regclass"
    )
    named = {row["attname"] for row in rows}
    assert {"id", "created_at", "recipients", "ended_at"} <= named
    changing = {"status", "attempts", "generation", "last_error", "updated_at", "next_attempt_at", "alone", "message"}
    assert named & changing == set()


async def test_lists_that_are_read_at_once_are_each_complete(served: Served, log: LogWorld) -> None:
    emails = await accepted_each_minute(log, 12)
    assert await asyncio.gather(*(ids(served, page_size=5) for _ in range(10))) == [emails] * 10


async def test_what_is_rare_is_looked_for_in_bounded_steps_and_found_all(pool: "asyncpg.Pool[Any]") -> None:
    listing = EmailListing(EmailList(pool, looked_at=3))
    rare = ListEmailsRequest(kind=email_pb2.EMAIL_KIND_WELCOME, page_size=2)
    assert await listing.page(rare) == ([], "")
    await pool.execute(
        """INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address,
                                       recipients, subject, created_at)
           SELECT gen_random_uuid(), i::text, decode(repeat('00', 32), 'hex'),
                  CASE WHEN i IN (1, 40, 41, 43, 100) THEN 'WELCOME' ELSE 'QUOTA_WARNING' END, 'NORMAL', 'QUEUED',
                  'a@b.c', ARRAY['a@b.c'], 'Hi', now() - (i / 5) * interval '1 s'
           FROM generate_series(1, 100) AS i"""
    )
    pages = []
    while True:
        page, rare.page_token = await listing.page(rare)
        pages.append([email.idempotency_key for email in page])
        if not rare.page_token:
            break
    assert sorted(key for page in pages for key in page) == ["1", "100", "40", "41", "43"]
    assert pages[0] == ["1"]  # thirty were looked at; the next page goes on
    assert all(len(page) <= 2 for page in pages)


async def test_however_many_emails_one_recipient_got_one_more_is_recorded_and_a_page_is_read_at_once(
    pool: "asyncpg.Pool[Any]",
) -> None:
    await pool.execute(
        """INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address,
                                       recipients, subject, created_at, ended_at)
           SELECT gen_random_uuid(), i::text, decode(repeat('00', 32), 'hex'), 'WELCOME', 'HIGH',
                  CASE WHEN i > 40000 THEN 'QUEUED' ELSE 'SUCCESS' END, 'a@b.c', ARRAY['ada@example.com'], 'Hi',
                  now() - (40001 - i) * interval '1 s', CASE WHEN i <= 40000 THEN now() END
           FROM generate_series(1, 40001) AS i"""
    )
    await pool.execute("VACUUM ANALYZE email_send_log")
    end = "UPDATE email_send_log SET status = 'SUCCESS', ended_at = now() WHERE idempotency_key = '40001'"
    assert await pages_read(pool, end) < 60
    columns = ("ARRAY['WELCOME']", "NULL", "'-infinity'", "'infinity'", "'infinity'", f"'{uuid.UUID(int=2**128 - 1)}'")
    listed = query("list_by_recipient")
    for number, value in reversed([*enumerate((*columns, "50", "'ada@example.com'"), 1)]):
        listed = listed.replace(f"${number}", value)
    assert await pages_read(pool, listed) < 500


async def pages_read(pool: "asyncpg.Pool[Any]", statement: str) -> int:
    """Pages of tables and indexes that a statement looks at."""
    (plan,) = json.loads(await pool.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {statement}"))
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
