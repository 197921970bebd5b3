"""Health by gRPC, which needs no token: what callers can't do with it."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

from sred_email_core.grpc_server import MAX_MESSAGE_BYTES, running_grpc_server
from sred_email_core.health import Dependency, HealthWatch
from sred_email_core.health_service import HealthService
from sred_email_core.settings import ListenAddress
from sred_email_local.ports import free_port
from support.raw_http2 import HEADERS, RawCaller
from support.world import until

SERVICE = "sred.email.v1.EmailDispatchService"
CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING
OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_send_message_length", -1)]


@asynccontextmanager
async def serving(health: HealthService) -> AsyncIterator[tuple[int, Any]]:
    """A server with nothing but health; its port, and a caller's stub."""
    port = free_port()
    async with (
        running_grpc_server(
            ListenAddress("127.0.0.1", port), lambda _: None, service_names=[], health=health, grace=timedelta()
        ),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
    ):
        yield port, health_pb2_grpc.HealthStub(channel)


async def status(stub: Any, service: str = "") -> int:
    return int((await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=20)).status)


async def code_of(call: Any) -> grpc.StatusCode:
    async with asyncio.timeout(20):
        code: grpc.StatusCode = await call.code()
        return code


async def test_who_watches_is_told_at_once_and_of_each_change() -> None:
    health = HealthService(SERVICE)
    async with serving(health) as (_, stub):
        watch = stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert (await watch.read()).status == NOT_SERVING
        health.tell(ready=True)
        assert (await watch.read()).status == SERVING
        health.tell(ready=True)
        health.tell(ready=False)
        assert (await watch.read()).status == NOT_SERVING
        watch.cancel()


async def test_a_watch_that_does_not_read_holds_up_neither_readiness_nor_the_stop() -> None:
    problem: list[str] = []

    async def answers() -> None:
        if problem:
            raise OSError(problem[0])

    health = HealthService(SERVICE)
    watch = HealthWatch([Dependency("PostgreSQL", answers)], tell=health.tell, interval_s=0.01)
    stop = asyncio.Event()
    async with serving(health) as (port, stub), asyncio.timeout(30):
        running = asyncio.create_task(watch.run(stop))
        async with RawCaller(port, window=0) as caller:
            await caller.open(1, WATCH)
            await caller.begin_message(1, 0, b"")
            await caller.wait_for(HEADERS, 1)  # the first answer is on its way, and stays there
            for now in (["refused"], [], ["refused"]):
                problem[:] = now
                while watch.ready is bool(now) or await status(stub) != (NOT_SERVING if now else SERVING):
                    await asyncio.sleep(0)
            stop.set()
            await running
            assert watch.problems == {"shutdown": "draining", "PostgreSQL": "refused"}


async def test_names_that_are_not_known_are_refused_and_so_is_what_is_no_request() -> None:
    async with serving(HealthService(SERVICE)) as (port, stub):
        for name in ("x", "x" * 10_000_000):
            request = health_pb2.HealthCheckRequest(service=name)
            for call in (stub.Check(request), stub.Watch(request)):
                assert await code_of(call) is grpc.StatusCode.NOT_FOUND
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel:
            garbage: Any = channel.unary_unary(CHECK)
            assert await code_of(garbage(b"\xff\xff")) is grpc.StatusCode.INVALID_ARGUMENT
        assert await status(stub) == NOT_SERVING


async def test_requests_that_trickle_in_are_read_four_at_a_time_and_given_up() -> None:
    async with (
        serving(HealthService(SERVICE, patience=timedelta(seconds=0.3))) as (port, stub),
        RawCaller(port) as caller,
    ):
        began_s = time.monotonic()
        for number in range(12):
            await caller.open(2 * number + 1, CHECK if number % 2 else WATCH)
            await caller.begin_message(2 * number + 1, MAX_MESSAGE_BYTES - 1, b"x" * 1000)
        first = await caller.wait_for(HEADERS, 1)
        assert b"did not arrive within 0.3 s" in first.replace(b"%20", b" ")

        async def all_ended() -> bool:
            return caller.count(HEADERS) >= 12

        await until(all_ended, "all twelve are given up")
        assert time.monotonic() - began_s > 0.8  # three rounds of four
        assert await status(stub) == NOT_SERVING


async def test_more_calls_than_a_process_takes_are_refused_unread() -> None:
    async with serving(HealthService(SERVICE, most_calls=3)) as (_, stub):
        watches = [stub.Watch(health_pb2.HealthCheckRequest()) for _ in range(3)]
        for watch in watches:
            assert (await watch.read()).status == NOT_SERVING
        assert await code_of(stub.Check(health_pb2.HealthCheckRequest())) is grpc.StatusCode.RESOURCE_EXHAUSTED
        watches[0].cancel()

        async def let_in() -> bool:
            return await code_of(stub.Check(health_pb2.HealthCheckRequest())) is grpc.StatusCode.OK

        await until(let_in, "whoever has ended makes room")
        for watch in watches:
            watch.cancel()


async def test_nobody_but_the_process_asks_how_long_calls_wait() -> None:
    async with (
        serving(HealthService(SERVICE)) as (port, _),
        grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=OPTIONS) as channel,
    ):
        ask: Any = channel.unary_unary("/sred.email.CallWait/Ask")
        assert await code_of(ask(b"x" * 10_000_000)) is grpc.StatusCode.UNIMPLEMENTED
