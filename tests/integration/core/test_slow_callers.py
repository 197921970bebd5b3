"""Callers that hold on to what they open: a request that does not come, streams without end, endless headers."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest

from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1 import dispatch_service_pb2_grpc
from sred_email_core.access.gate import Gate
from sred_email_core.access.tokens import Scope, parse_tokens
from sred_email_core.call_guard import CallGuard
from sred_email_core.grpc_server import MAX_MESSAGE_BYTES, SERVER_OPTIONS
from sred_email_core.guarded_server import GuardedServer
from support.access_files import TOKENS, bearer, token_line
from support.raw_http2 import HEADERS, RESET, SETTINGS, RawCaller
from support.world import until

SEND = "/sred.email.v1.EmailDispatchService/SendEmail"
WATCH = "/sred.email.v1.EmailDispatchService/WatchEmails"
KEY = bearer(TOKENS["send"])


class Quick(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """Answers at once."""

    async def SendEmail(self, request: pb.SendEmailRequest, context: Any) -> pb.SendEmailResponse:  # noqa: ARG002, N802
        return pb.SendEmailResponse(email_id="sent")


@asynccontextmanager
async def serving(
    patience: timedelta = timedelta(seconds=30), most_calls: int = 2000, options: Mapping[str, int] | None = None
) -> AsyncIterator[tuple[int, CallGuard]]:
    gate = Gate(parse_tokens(token_line("shop", "send", TOKENS["send"])))
    guard = CallGuard(most_calls=most_calls, patience=patience)
    server = grpc.aio.server(options=list({**dict(SERVER_OPTIONS), **(options or {})}.items()))
    scopes = dict.fromkeys(m.name for m in pb.DESCRIPTOR.services_by_name["EmailDispatchService"].methods)
    guarded = GuardedServer(server, guard, gate, {**scopes, "SendEmail": Scope.SEND, "WatchEmails": Scope.SEND})
    dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(Quick(), cast("grpc.aio.Server", guarded))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        yield port, guard
    finally:
        await server.stop(None)


async def sent(port: int) -> bool:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(channel)
        answer = await stub.SendEmail(pb.SendEmailRequest(), metadata=KEY, timeout=20)
        return bool(answer.email_id == "sent")


@pytest.mark.parametrize("method", [SEND, WATCH])
async def test_a_request_that_trickles_in_is_given_up_and_its_stream_is_ended(method: str) -> None:
    async with serving(patience=timedelta(seconds=0.3)) as (port, guard), RawCaller(port) as caller:
        await caller.open(1, method, *KEY)
        await caller.begin_message(1, MAX_MESSAGE_BYTES - 1, b"x" * 1000)
        trailers = await caller.wait_for(HEADERS, 1)
        assert b"did not arrive within 0.3 s" in trailers.replace(b"%20", b" ")
        await caller.wait_for(RESET, 1)

        async def free() -> bool:
            return guard.under_way == 0

        await until(free, "the call has ended here, too")
        assert await sent(port)


async def test_of_a_caller_without_a_token_nothing_is_read() -> None:
    async with serving() as (port, guard), RawCaller(port) as caller:
        await caller.open(1, SEND)
        await caller.begin_message(1, MAX_MESSAGE_BYTES - 1, b"x" * 1000)
        assert b"TOKEN" in await caller.wait_for(HEADERS, 1)
        await caller.wait_for(RESET, 1)
        assert guard.under_way == 0


async def test_a_message_that_is_too_large_is_refused_when_it_is_announced() -> None:
    async with serving() as (port, _), RawCaller(port) as caller:
        await caller.open(1, SEND, *KEY)
        await caller.begin_message(1, MAX_MESSAGE_BYTES + 1, b"x" * 1000)
        assert b"grpc-status" in await caller.wait_for(HEADERS, 1)


async def test_a_small_message_that_unpacks_to_a_large_one_is_refused() -> None:
    async with serving() as (port, _):
        options = [("grpc.max_send_message_length", -1)]
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=options) as channel:
            request = pb.SendEmailRequest(idempotency_key="x" * (MAX_MESSAGE_BYTES + 1))
            stub: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(channel)
            call = stub.SendEmail(request, metadata=KEY, timeout=30, compression=grpc.Compression.Gzip)
            assert await call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        assert await sent(port)


async def test_one_connection_with_streams_without_end_leaves_room_for_others() -> None:
    limit = dict(SERVER_OPTIONS)["grpc.max_concurrent_streams"]
    assert 2000 < limit <= 5000  # more than the guard lets in, less than would hurt
    async with serving(options={"grpc.max_concurrent_streams": 100}) as (port, guard), RawCaller(port) as caller:
        for number in range(300):
            await caller.open(2 * number + 1, SEND, *KEY)

        async def all_seen() -> bool:
            return guard.under_way + caller.count(RESET) >= 300

        await until(all_seen, "every stream is read from or refused")
        assert guard.under_way == 100
        assert await sent(port)


@pytest.mark.parametrize("method", [SEND, WATCH])
async def test_streams_that_lie_idle_are_as_many_as_a_process_takes_and_no_more(method: str) -> None:
    async with serving(patience=timedelta(seconds=2), most_calls=50) as (port, guard), RawCaller(port) as caller:
        for number in range(60):
            await caller.open(2 * number + 1, method, *KEY)

        async def refused() -> bool:
            return caller.count(HEADERS) >= 10

        await until(refused, "those beyond are refused")
        assert guard.under_way == 50

        async def free() -> bool:
            return guard.under_way == 0

        await until(free, "those that lie idle are given up")
        assert await sent(port)


async def test_headers_without_end_are_refused() -> None:
    async with serving() as (port, guard), RawCaller(port) as caller:

        async def agreed() -> bool:
            return caller.count(SETTINGS) > 1

        await until(agreed, "both sides have told each other what they take")
        await caller.open(1, SEND, *KEY, ("x-long", "x" * 15_000), ("x-longer", "y" * 15_000))
        assert b"grpc-status" in await caller.wait_for(HEADERS, 1)
        await caller.wait_for(RESET, 1)
        assert guard.under_way == 0
        assert await sent(port)
