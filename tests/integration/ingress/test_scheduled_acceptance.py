"""What becomes of calls with a send_at: where the email waits, and what later calls with its key do."""

from datetime import UTC, datetime, timedelta

import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from integration.ingress.ingress_world import IngressWorld

from sred.email.v1 import email_pb2
from sred_email_core.errors import InvalidRequestError

FIRST_SECOND = -62_135_596_800


def in_time(**delta: float) -> Timestamp:
    made = Timestamp()
    made.FromDatetime(datetime.now(UTC) + timedelta(**delta))
    return made


async def due_at(ingress: IngressWorld, email_id: str) -> float | None:
    """When it leaves the retry set, in Unix seconds; None: it is not in there."""
    score = await ingress.redis.zscore(ingress.keys.retry, email_id)
    return None if score is None else score / 1000


async def test_what_is_due_within_the_hour_waits_in_the_retry_set(ingress: IngressWorld) -> None:
    send_at = in_time(minutes=59)
    answer = await ingress.send("soon", send_at=send_at)
    assert answer.status == "SCHEDULED"
    assert await ingress.place(answer.email_id) == "retry:2"
    due = await due_at(ingress, answer.email_id)
    assert due is not None
    assert abs(due - send_at.ToDatetime(UTC).timestamp()) < 1
    assert await ingress.published() == 0
    row = await ingress.row(answer.email_id)
    assert (row["status"], row["send_at"]) == ("SCHEDULED", send_at.ToDatetime(UTC))
    assert (await ingress.parts.dispatch.get(email_id=answer.email_id)).send_at == send_at.ToDatetime(UTC)


async def test_what_is_due_later_stays_in_postgresql(ingress: IngressWorld) -> None:
    answers = [await ingress.send(f"{days}", send_at=in_time(days=days)) for days in (0.05, 29.999)]
    assert [answer.status for answer in answers] == ["SCHEDULED"] * 2
    assert [await ingress.place(answer.email_id) for answer in answers] == [None, None]
    assert not await ingress.redis.exists(ingress.keys.retry, ingress.keys.parked, ingress.keys.places)


@pytest.mark.parametrize("send_at", [Timestamp(seconds=FIRST_SECOND), Timestamp(), in_time(seconds=-1)])
async def test_a_time_that_has_passed_means_now(ingress: IngressWorld, send_at: Timestamp) -> None:
    answer = await ingress.send("now", send_at=send_at, kind=email_pb2.EMAIL_KIND_PASSWORD_RESET)
    assert answer.status == "QUEUED"
    assert await ingress.published() == 1
    assert (await ingress.row(answer.email_id))["expire_at"] == answer.accepted_at + timedelta(hours=1)
    shown = (await ingress.parts.dispatch.get(email_id=answer.email_id)).send_at
    assert shown is not None
    assert abs(shown - send_at.ToDatetime(UTC)) <= timedelta(days=1)
    again = await ingress.send("now", send_at=send_at, kind=email_pb2.EMAIL_KIND_PASSWORD_RESET)
    assert (again.status, again.deduplicated) == ("QUEUED", True)


async def test_a_lifetime_runs_from_the_scheduled_time(ingress: IngressWorld) -> None:
    send_at = in_time(days=3)
    answer = await ingress.send("a", send_at=send_at, kind=email_pb2.EMAIL_KIND_PASSWORD_RESET)
    assert (await ingress.row(answer.email_id))["expire_at"] == send_at.ToDatetime(UTC) + timedelta(hours=1)


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"send_at": in_time(days=30, hours=5)}, ["send_at"]),
        ({"send_at": Timestamp(seconds=253_402_300_799, nanos=999_999_999)}, ["send_at"]),
        ({"send_at": in_time(hours=2), "expire_at": in_time(hours=1)}, ["expire_at"]),
        ({"send_at": in_time(hours=2), "expire_at": in_time(hours=-1)}, ["expire_at"]),
        ({"send_at": in_time(days=40), "expire_at": in_time(days=39)}, ["send_at", "expire_at"]),
    ],
)
async def test_times_that_can_not_be_are_refused_by_name_and_nothing_is_written(
    ingress: IngressWorld, fields: dict[str, Timestamp], named: list[str]
) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await ingress.send("a", **fields)
    assert [violation.field for violation in refused.value.violations] == named
    assert await ingress.subjects() == []


async def test_hazard_25_a_retry_is_answered_with_the_scheduled_email_whatever_times_it_names(
    ingress: IngressWorld,
) -> None:
    first = await ingress.send("a", send_at=in_time(hours=3))
    for times in (
        {"send_at": in_time(days=31)},
        {"send_at": in_time(hours=2), "expire_at": in_time(hours=1)},
        {"send_at": in_time(seconds=-1)},
        {},
    ):
        again = await ingress.send("a", **times)
        assert (again.email_id, again.status, again.deduplicated) == (first.email_id, "SCHEDULED", True)
    assert await ingress.place(first.email_id) is None
    assert await ingress.published() == 0


async def test_hazard_1_a_retry_puts_what_is_due_within_the_hour_where_it_waits_and_not_on_its_stream(
    ingress: IngressWorld,
) -> None:
    first = await ingress.send("a", send_at=in_time(minutes=30))
    await ingress.redis.flushall()
    assert (await ingress.send("a")).deduplicated
    assert await ingress.place(first.email_id) == "retry:2"
    due = await due_at(ingress, first.email_id)
    assert due is not None
    assert due > (datetime.now(UTC) + timedelta(minutes=29)).timestamp()
    assert await ingress.published() == 0


async def test_a_scheduled_email_is_cancelled_at_once_wherever_it_waits(ingress: IngressWorld) -> None:
    for subject, hours in (("in Redis", 0.5), ("in PostgreSQL", 48)):
        answer = await ingress.send(subject, send_at=in_time(hours=hours))
        cancelled = await ingress.parts.cancellation.cancel(answer.email_id)
        assert cancelled.status == "CANCELLED"
        assert (await ingress.row(answer.email_id))["message"] is None
    assert not await ingress.redis.exists(ingress.keys.retry, ingress.keys.parked, ingress.keys.places)


async def test_what_is_scheduled_for_later_is_no_backlog(ingress: IngressWorld) -> None:
    log = ingress.parts.dispatch._log  # noqa: SLF001 - what backpressure counts by
    for subject, hours in (("now", 0.0), ("soon", 0.5), ("later", 2.0), ("much later", 48.0)):
        await ingress.send(subject, send_at=in_time(hours=hours))
    assert await log.count_open(at_most=10) == 1
    await ingress.pool.execute("UPDATE email_send_log SET send_at = now() WHERE subject = 'soon'")
    assert await log.count_open(at_most=10) == 2
    assert await log.count_open(at_most=1) <= 1
