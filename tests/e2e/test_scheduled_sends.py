"""Emails with a send_at, on the running pair: sent once, at their time, never before, whatever Redis forgets."""

import asyncio
import signal
from datetime import UTC, datetime, timedelta

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest
from grpc_status import rpc_status

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, CancelEmailRequest
from sred.email.v1.operations_service_pb2 import GetQueueStatsRequest
from support.world import World, email_request

SCHEDULED = email_pb2.EMAIL_STATUS_SCHEDULED


def in_time(**delta: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(**delta))
    return stamp


def sent_at(world: World, subject: str) -> float:
    """When the provider got the one request with this subject, in Unix seconds."""
    (request,) = [request for request in world.requests if subject in request.subjects]
    return request.at


async def test_hazard_20_scheduled_emails_are_sent_at_their_time_and_never_before(world: World) -> None:
    await world.start_pair()
    send_at = in_time(seconds=1)
    requests = [email_request(f"{number}", send_at=send_at) for number in range(20)]
    batch = await world.dispatch().BatchSendEmails(BatchSendEmailsRequest(requests=requests), timeout=10)
    assert {result.response.status for result in batch.results} == {SCHEDULED}
    early = (await world.send("early", send_at=send_at)).email_id
    far = (await world.send("far", send_at=in_time(days=2))).email_id
    stats = await world.operations().GetQueueStats(GetQueueStatsRequest(), timeout=5)
    assert (stats.retry_scheduled, stats.retry_due) == (21, 0)
    # Whatever moves it to its stream too early, the claim knows its time.
    await world.redis.zadd(world.keys.retry, {early: 0})
    for result in batch.results:
        assert await world.wait_for(result.response.email_id) == "SUCCESS"
    assert await world.wait_for(early) == "SUCCESS"
    due = send_at.ToDatetime(UTC).timestamp()
    for subject in ("early", *map(str, range(20))):
        assert world.deliveries(subject) == 1
        assert due <= sent_at(world, subject) < due + 2
    email = await world.get_email(early)
    assert (email.attempts, email.send_at) == (1, send_at)
    assert not email.HasField("next_attempt_at")
    waiting = await world.get_email(far)
    assert (waiting.status, waiting.next_attempt_at) == (SCHEDULED, waiting.send_at)
    cancelled = await world.dispatch().CancelEmail(CancelEmailRequest(email_id=far), timeout=5)
    assert cancelled.email.status == email_pb2.EMAIL_STATUS_CANCELLED
    await world.assert_redis_is_clean()


async def test_scheduled_emails_survive_a_flush_and_the_death_of_every_process(world: World) -> None:
    ingress, consumer = await world.start_pair()
    send_at = in_time(seconds=1.5)
    email_id = (await world.send("a", send_at=send_at)).email_id
    far = (await world.send("far", send_at=in_time(hours=2))).email_id
    for service in (ingress, consumer):
        service.process.send_signal(signal.SIGKILL)
    await world.redis.flushall()
    # Time passes: what was far ahead is due in a moment.
    nearer = "UPDATE email_send_log SET send_at = $2, next_attempt_at = $2 WHERE id = $1"
    await world.pool.execute(nearer, far, send_at.ToDatetime(UTC))
    await world.start_pair()
    ended = await asyncio.gather(world.wait_for(email_id), world.wait_for(far))
    assert [*ended] == ["SUCCESS", "SUCCESS"]
    for subject in ("a", "far"):
        assert world.deliveries(subject) == 1
        assert sent_at(world, subject) >= send_at.ToDatetime(UTC).timestamp()
    await world.assert_redis_is_clean()


async def test_a_send_at_too_far_ahead_is_refused_by_name_and_a_retry_of_an_accepted_call_is_not(world: World) -> None:
    await world.start("ingress")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.send("a", send_at=in_time(days=30, minutes=1))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    status, bad = rpc_status.from_call(refused.value), BadRequest()  # type: ignore[arg-type]
    assert status is not None
    assert status.details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["send_at"]
    first = await world.send("a", send_at=in_time(days=29))
    again = await world.send("a", send_at=in_time(days=31))
    assert (again.email_id, again.status, again.deduplicated) == (first.email_id, SCHEDULED, True)
