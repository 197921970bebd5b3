"""StreamSendEmails: results in order, each email on its own, and an end that the caller can act on."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.rpc import code_pb2

from sred.email.v1.dispatch_service_pb2 import StreamSendEmailsRequest, StreamSendEmailsResponse
from support.world import World, email_request


async def told(world: World, *subjects: str) -> list[StreamSendEmailsResponse]:
    """What a stream answers to emails with these subjects."""

    async def requests() -> AsyncIterator[StreamSendEmailsRequest]:
        for subject in subjects:
            yield StreamSendEmailsRequest(request=email_request(subject))

    return [answer async for answer in world.dispatch().StreamSendEmails(requests(), timeout=30)]


async def test_a_thousand_emails_are_answered_in_their_order(world: World) -> None:
    await world.start_pair()
    subjects = [f"stream {n}" for n in range(1000)]
    answers = await told(world, *subjects)
    assert [answer.idempotency_key for answer in answers] == [f"key-{subject}" for subject in subjects]
    ids = [answer.result.response.email_id for answer in answers]
    assert len(set(ids)) == 1000
    for email_id in (ids[0], ids[-1]):
        assert await world.wait_for(email_id) == "SUCCESS"


async def test_one_bad_email_is_a_result_and_the_same_key_is_one_email(world: World) -> None:
    await world.start("ingress")
    call = world.dispatch().StreamSendEmails(timeout=30)
    for request in (email_request("same"), email_request("bad", to=["nobody"]), email_request("same")):
        await call.write(StreamSendEmailsRequest(request=request))
    answers = [await call.read() for _ in range(3)]  # before the stream ends: each comes when it is known
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    first, bad, same = (answer.result for answer in answers if isinstance(answer, StreamSendEmailsResponse))
    assert bad.error.code == code_pb2.INVALID_ARGUMENT
    assert same.response.email_id == first.response.email_id
    assert same.response.deduplicated


async def test_a_message_that_is_none_ends_the_stream_after_what_came_before(world: World) -> None:
    service = await world.start("ingress")
    async with grpc.aio.insecure_channel(service.address) as channel:
        call: Any = channel.stream_stream("/sred.email.v1.EmailDispatchService/StreamSendEmails")(timeout=30)
        await call.write(StreamSendEmailsRequest(request=email_request("fine")).SerializeToString())
        await call.write(b"\xff\xff")
        answer = StreamSendEmailsResponse.FromString(await call.read())
        assert answer.result.response.email_id
        with pytest.raises(grpc.aio.AioRpcError) as ended:
            await call.read()
        assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_stop_answers_what_was_read_and_ends_the_stream_with_unavailable(world: World) -> None:
    service = await world.start("ingress")
    call = world.dispatch().StreamSendEmails(timeout=30)
    await call.write(StreamSendEmailsRequest(request=email_request("before the stop")))
    answer = await call.read()
    assert isinstance(answer, StreamSendEmailsResponse)
    os.kill(service.process.pid, signal.SIGTERM)
    with pytest.raises(grpc.aio.AioRpcError) as ended:
        await asyncio.wait_for(call.read(), 10)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await world.status(answer.result.response.email_id) == "QUEUED"
