"""What is cancelled or has expired is never sent, and what may be out already is neither."""

import asyncio
import json
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import grpc
import pytest
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest
from sred_email_local.sandbox.rules import Action, Rule
from support.world import World, email_request, until

CANCELLED = email_pb2.EMAIL_STATUS_CANCELLED


def in_time(**delta: float) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC) + timedelta(**delta))
    return stamp


async def cancel(world: World, email_id: str) -> email_pb2.Email:
    return (await world.dispatch().CancelEmail(CancelEmailRequest(email_id=email_id), timeout=10)).email


async def refusal(world: World, email_id: str) -> tuple[grpc.StatusCode, str]:
    """The code and the reason with which a cancellation is refused."""
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await cancel(world, email_id)
    info = ErrorInfo()
    found = [detail for detail in status_of(refused.value).details if detail.Unpack(info)]
    return refused.value.code(), info.reason if found else ""


def status_of(error: grpc.aio.AioRpcError) -> Status:
    status: Status | None = rpc_status.from_call(cast("grpc.Call", error))
    return status or Status()


async def has_passed(when: Timestamp) -> None:
    async def passed() -> bool:
        return datetime.now(UTC) > when.ToDatetime(UTC)

    await until(passed, "the email has expired")


async def test_a_cancelled_email_is_never_sent_and_its_neighbours_are(world: World) -> None:
    await world.start("ingress")
    cancelled, neighbour = [(await world.send(subject)).email_id for subject in ("cancelled", "neighbour")]
    email = await cancel(world, cancelled)
    assert (email.email_id, email.status, email.subject) == (cancelled, CANCELLED, "cancelled")
    assert await world.redis.hexists(world.keys.places, cancelled) == 0
    await world.start("consumer")
    await world.wait_for(neighbour, "SUCCESS")
    assert (await world.get_email(cancelled)).status == CANCELLED
    assert (world.deliveries("cancelled"), world.deliveries("neighbour")) == (0, 1)
    await world.assert_redis_is_clean()
    again = await world.send("cancelled")
    assert (again.email_id, again.status, again.deduplicated) == (cancelled, CANCELLED, True)
    assert await refusal(world, cancelled) == (grpc.StatusCode.FAILED_PRECONDITION, "HAS_ENDED")
    assert await refusal(world, neighbour) == (grpc.StatusCode.FAILED_PRECONDITION, "HAS_ENDED")


async def test_the_command_cancels_and_says_why_not(world: World) -> None:
    ingress = await world.start("ingress")
    email_id = (await world.send("a")).email_id

    async def run(*words: str) -> tuple[int | None, str, str]:
        program = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / "sred-email",
            *("cancel", *words, "--address", ingress.address),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await program.communicate()
        return program.returncode, out.decode(), err.decode()

    code, out, err = await run(email_id, "--json")
    assert (code, err) == (0, "")
    assert (json.loads(out)["email_id"], json.loads(out)["status"]) == (email_id, "CANCELLED")
    code, out, err = await run(email_id)
    assert (code, out) == (1, "")
    assert err.splitlines() == [
        f"sred-email: FAILED_PRECONDITION: email {email_id} has already ended as CANCELLED: it can't be cancelled",
        "  reason: HAS_ENDED",
    ]
    assert (await run())[0] == 2


async def test_an_id_that_is_none_and_one_of_no_email(world: World) -> None:
    await world.start("ingress")
    assert (await refusal(world, "nonsense"))[0] is grpc.StatusCode.INVALID_ARGUMENT
    assert (await refusal(world, str(uuid.uuid4())))[0] is grpc.StatusCode.NOT_FOUND


async def test_an_email_that_waits_for_its_retry_leaves_the_retry_set_at_once(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "3600"}, times=1))
    email_id = (await world.send("parked")).email_id

    async def parked() -> bool:
        return await world.redis.zscore(world.keys.retry, email_id) is not None

    await until(parked, "the email is in the retry set")
    assert (await cancel(world, email_id)).status == CANCELLED
    await world.assert_redis_is_clean()
    assert world.deliveries("parked") == 0


async def test_what_is_being_sent_and_what_may_be_out_is_not_cancelled(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.ACCEPT_THEN_500, headers={"retry-after": "2"}, times=1))
    out = (await world.send("out")).email_id
    await world.wait_for(out, "RETRYING")
    assert await refusal(world, out) == (grpc.StatusCode.FAILED_PRECONDITION, "MAY_HAVE_BEEN_ACCEPTED")
    world.rules(Rule(action=Action.DELAY, delay_s=1))
    slow = (await world.send("slow")).email_id
    await world.wait_for(slow, "SENDING")
    assert await refusal(world, slow) == (grpc.StatusCode.FAILED_PRECONDITION, "BEING_SENT")
    for email_id, subject in ((out, "out"), (slow, "slow")):
        assert await world.wait_for(email_id) == "SUCCESS"
        assert world.deliveries(subject) == 1


async def test_whenever_it_comes_a_cancellation_that_is_answered_ok_prevents_the_email(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(action=Action.DELAY, delay_s=0.02))
    few = asyncio.Semaphore(50)  # a busy machine refuses more with RESOURCE_EXHAUSTED

    async def send_and_cancel(number: int) -> tuple[str, str, bool]:
        subject = f"race {number}"
        async with few:
            email_id = (await world.send(subject)).email_id
            await asyncio.sleep(number % 10 / 200)
            try:
                await cancel(world, email_id)
            except grpc.aio.AioRpcError as e:
                if e.code() is not grpc.StatusCode.FAILED_PRECONDITION:
                    raise
                return subject, email_id, False
        return subject, email_id, True

    results = await asyncio.gather(*(send_and_cancel(number) for number in range(200)))
    for subject, email_id, cancelled in results:
        assert await world.wait_for(email_id) == ("CANCELLED" if cancelled else "SUCCESS")
        assert world.deliveries(subject) == (0 if cancelled else 1)
    await world.assert_redis_is_clean()


async def test_a_cancellation_without_redis_is_answered_and_holds(world: World) -> None:
    await world.start("ingress")
    email_id = (await world.send("a")).email_id
    await world.redis.set(world.keys.places, "not a hash")  # every script that touches it fails
    assert (await cancel(world, email_id)).status == CANCELLED
    await world.redis.delete(world.keys.places)
    await world.start("consumer")
    await world.assert_redis_is_clean()
    assert world.deliveries("a") == 0
    assert (await world.get_email(email_id)).status == CANCELLED


async def test_hazard_20_an_email_that_expired_while_nobody_delivered_is_never_sent(world: World) -> None:
    await world.start("ingress", SRED_EMAIL_DEFAULT_EXPIRY="WELCOME=0.7")
    expire_at = in_time(seconds=0.8)
    by_call = (await world.send("by call", expire_at=expire_at)).email_id
    by_kind = (await world.send("by kind", kind=email_pb2.EMAIL_KIND_WELCOME)).email_id
    later = (await world.send("later", expire_at=in_time(hours=1))).email_id
    shown = await world.get_email(by_call)
    assert abs(shown.expire_at.ToDatetime(UTC) - expire_at.ToDatetime(UTC)) < timedelta(microseconds=1)
    of_kind = await world.get_email(by_kind)
    assert of_kind.expire_at.ToDatetime(UTC) == of_kind.created_at.ToDatetime(UTC) + timedelta(seconds=0.7)
    await has_passed(expire_at)
    await has_passed(of_kind.expire_at)
    await world.start("consumer")
    assert await world.wait_for(later) == "SUCCESS"
    for email_id, subject in ((by_call, "by call"), (by_kind, "by kind")):
        assert await world.wait_for(email_id) == "EXPIRED"
        assert world.deliveries(subject) == 0
    assert len(world.requests) == 1
    await world.assert_redis_is_clean()
    assert await world.pool.fetchval("SELECT count(*) FROM email_send_log WHERE message IS NOT NULL") == 0
    assert await refusal(world, by_call) == (grpc.StatusCode.FAILED_PRECONDITION, "HAS_ENDED")


async def test_hazard_20_an_email_that_expires_while_it_waits_for_its_retry_is_not_sent_again(world: World) -> None:
    await world.start_pair()
    world.rules(Rule(status=429, name="rate_limit_exceeded", headers={"retry-after": "2"}, times=1))
    email_id = (await world.send("parked", expire_at=in_time(seconds=1))).email_id
    assert await world.wait_for(email_id) == "EXPIRED"
    await world.assert_redis_is_clean()
    assert world.deliveries("parked") == 0


async def test_an_expiry_in_the_past_is_refused_and_a_retry_of_an_accepted_call_is_not(world: World) -> None:
    await world.start("ingress")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await world.send("late", expire_at=in_time(seconds=-1))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    bad = BadRequest()
    assert status_of(refused.value).details[0].Unpack(bad)
    assert [violation.field for violation in bad.field_violations] == ["expire_at"]
    expire_at = in_time(seconds=0.5)
    first = await world.send("in time", expire_at=expire_at)
    await has_passed(expire_at)
    again = await world.dispatch().SendEmail(email_request("in time", expire_at=expire_at), timeout=10)
    assert (again.email_id, again.deduplicated) == (first.email_id, True)
