"""What every call passes through, on a real gRPC server."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, cast

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from sred.email.v1 import dispatch_service_pb2_grpc
from sred.email.v1.dispatch_service_pb2 import GetEmailRequest, GetEmailResponse
from sred_email_core.call_guard import CallGuard
from sred_email_core.grpc_server import SERVER_OPTIONS
from sred_email_core.guarded_server import GuardedServer
from sred_email_core.lifecycle import StopEvent


class Slow(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """Answers when told."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()
        self.begun = asyncio.Semaphore(0)

    async def GetEmail(self, request: GetEmailRequest, context: Any) -> GetEmailResponse:  # noqa: ARG002, N802
        """One call."""
        self.begun.release()
        await self.go_on.wait()
        return GetEmailResponse()


@asynccontextmanager
async def serving(servicer: Slow, guard: CallGuard) -> AsyncIterator[Any]:
    """A server, and a call to it."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(
        servicer, cast("grpc.aio.Server", GuardedServer(server, guard))
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield dispatch_service_pb2_grpc.EmailDispatchServiceStub(channel).GetEmail
    finally:
        await server.stop(None)


async def test_more_calls_than_a_process_may_have_are_refused_at_once_and_told_when_to_come_again() -> None:
    servicer = Slow()
    async with serving(servicer, CallGuard(most_calls=2)) as get_email:
        calls = [get_email(GetEmailRequest(), timeout=10) for _ in range(2)]
        for _ in calls:
            await servicer.begun.acquire()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_email(GetEmailRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        status = rpc_status.from_call(refused.value)  # type: ignore[arg-type]
        retry = error_details_pb2.RetryInfo()
        assert status is not None
        assert status.details[0].Unpack(retry)
        assert retry.retry_delay.ToTimedelta() == timedelta(seconds=1)
        servicer.go_on.set()
        await asyncio.gather(*calls)
        await get_email(GetEmailRequest(), timeout=10)


async def test_after_the_stop_calls_are_refused_and_those_in_progress_end() -> None:
    servicer, stop = Slow(), StopEvent()
    guard = CallGuard(stop, most_calls=2)
    async with serving(servicer, guard) as get_email:
        call = get_email(GetEmailRequest(), timeout=10)
        await servicer.begun.acquire()
        stop.set()
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await get_email(GetEmailRequest(), timeout=10)
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        drained = asyncio.create_task(guard.drain(timedelta(seconds=10)))
        servicer.go_on.set()
        await call
        await drained


async def test_a_burst_is_refused_with_details_and_never_cancelled_by_grpc_itself() -> None:
    servicer = Slow()
    async with serving(servicer, CallGuard(most_calls=1)) as get_email:
        first = get_email(GetEmailRequest(), timeout=60)
        await servicer.begun.acquire()
        calls = [get_email(GetEmailRequest(), timeout=60) for _ in range(4000)]
        assert Counter([await call.code() for call in calls]) == {grpc.StatusCode.RESOURCE_EXHAUSTED: 4000}
        servicer.go_on.set()
        await first
