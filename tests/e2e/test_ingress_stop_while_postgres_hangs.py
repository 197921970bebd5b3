"""A rolling restart while PostgreSQL does not answer."""

import asyncio
import signal
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import grpc

from support.tcp_proxy import TcpProxy
from support.world import World, email_request

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub

_HANGS_S = 1.5


async def test_an_ingress_stops_in_time_while_postgres_hangs_and_takes_no_new_calls(world: World) -> None:
    dsn = world.env["SRED_EMAIL_POSTGRES_DSN"]
    port = urlsplit(dsn).port
    assert port is not None
    async with TcpProxy(port) as proxy:
        through_it = dsn.replace(f":{port}/", f":{proxy.port}/")
        assert through_it != dsn
        ingress = await world.start("ingress", SRED_EMAIL_POSTGRES_DSN=through_it, SRED_EMAIL_DRAIN_TIMEOUT="3")
        stub = world.dispatch(ingress)
        await stub.SendEmail(email_request("before"), timeout=5)
        proxy.stall()
        under_way = asyncio.create_task(_code(stub, "under way", timeout_s=20))
        assert await _code(stub, "hangs", timeout_s=_HANGS_S) == "DEADLINE_EXCEEDED"  # by then every loop waits, too
        began_s = time.monotonic()
        ingress.process.send_signal(signal.SIGTERM)
        codes = [await _code(stub, "after", timeout_s=0.2)]
        while codes[-1] == "DEADLINE_EXCEEDED":  # the signal had not arrived
            codes.append(await _code(stub, "after", timeout_s=0.2))
        assert time.monotonic() - began_s < 1, codes
        assert codes[-1] == "UNAVAILABLE"
        assert ingress.process.alive
        assert await ingress.process.wait(10) == 0
        assert time.monotonic() - began_s < 5
        assert await under_way == "UNAVAILABLE"


async def _code(stub: "EmailDispatchServiceAsyncStub", subject: str, *, timeout_s: float) -> str:
    try:
        await stub.SendEmail(email_request(subject), timeout=timeout_s)
    except grpc.aio.AioRpcError as e:
        return e.code().name
    return "OK"
