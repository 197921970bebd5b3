"""Calls that come faster than they are dealt with, on a real gRPC server."""

import asyncio
import time
from collections import Counter
from typing import Any, cast

import grpc

from sred.email.v1 import dispatch_service_pb2_grpc
from sred.email.v1.dispatch_service_pb2 import GetEmailRequest, GetEmailResponse
from sred_email_core.call_guard import CallGuard
from sred_email_core.call_wait import CallWait
from sred_email_core.grpc_server import SERVER_OPTIONS
from sred_email_core.guarded_server import GuardedServer

_WORK_S = 0.004


class Busy(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """Needs the processor for each call."""

    async def GetEmail(self, request: GetEmailRequest, context: Any) -> GetEmailResponse:  # noqa: ARG002, N802
        """One call."""
        until_s = time.perf_counter() + _WORK_S
        while time.perf_counter() < until_s:
            pass
        return GetEmailResponse()


class Backends:
    """Call all at once; count the answers, and how long those that were accepted took."""

    def __init__(self, address: str, calls: int) -> None:
        self.answers: Counter[str] = Counter()
        self.slowest_s = 0.0
        with grpc.insecure_channel(address) as channel:
            get_email: Any = dispatch_service_pb2_grpc.EmailDispatchServiceStub(channel).GetEmail
            began_s = time.monotonic()
            took_s: dict[Any, float] = {}
            futures = [get_email.future(GetEmailRequest(), timeout=30) for _ in range(calls)]
            for future in futures:
                future.add_done_callback(lambda done: took_s.setdefault(done, time.monotonic() - began_s))
            for future in futures:
                code = future.code()
                self.answers[code.name] += 1
                if code is grpc.StatusCode.OK:
                    self.slowest_s = max(self.slowest_s, took_s.get(future, 0.0))


async def test_at_more_than_can_be_done_what_is_accepted_is_answered_soon_and_the_rest_is_refused() -> None:
    wait = CallWait()
    server = grpc.aio.server(handlers=[wait], options=SERVER_OPTIONS)
    guarded = GuardedServer(server, CallGuard(most_calls=2000, wait=wait))
    dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(Busy(), cast("grpc.aio.Server", guarded))
    port = server.add_insecure_port("127.0.0.1:0")

    async def flood(calls: int) -> Backends:
        return await asyncio.to_thread(Backends, f"127.0.0.1:{port}", calls)

    async with wait.watching(server):
        await server.start()
        assert (await flood(50)).answers == {"OK": 50}
        many = await flood(1500)  # six seconds of work
        assert set(many.answers) == {"OK", "RESOURCE_EXHAUSTED"}
        assert many.answers["OK"] >= 50
        assert many.slowest_s < 3
        async with asyncio.timeout(10):
            while (await flood(1)).answers != {"OK": 1}:
                pass
        assert (await flood(50)).answers == {"OK": 50}
    await server.stop(None)
