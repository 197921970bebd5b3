"""What the HTTP port does with callers that send too much, too slowly, or nothing."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from aiohttp import web
from prometheus_client import CollectorRegistry

from sred_email_core.health import HealthWatch
from sred_email_core.health_service import HealthService
from sred_email_core.http_server import build_http_app, running_http_server
from sred_email_core.settings import ListenAddress
from sred_email_local.ports import free_port

IDLE = timedelta(seconds=0.5)


async def read_body(request: web.Request) -> web.Response:
    return web.Response(text=str(len(await request.read())))


@asynccontextmanager
async def connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    health = HealthWatch([], tell=HealthService("x").tell)
    app = build_http_app(health, CollectorRegistry())
    app.add_routes([web.post("/body", read_body)])
    port = free_port()
    async with running_http_server(app, ListenAddress("127.0.0.1", port), idle=IDLE):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            yield reader, writer
        finally:
            writer.close()


async def test_a_connection_that_says_nothing_is_closed() -> None:
    async with connected() as (reader, _), asyncio.timeout(20):
        assert await reader.read() == b""


async def test_a_connection_whose_headers_trickle_in_is_closed() -> None:
    async with connected() as (reader, writer), asyncio.timeout(20):
        closed = asyncio.create_task(reader.read())
        writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n")
        while not closed.done():
            writer.write(b"x-more: and more\r\n")
            await asyncio.wait([closed], timeout=0.1)
        assert b" 200 " not in closed.result()


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\nx-long: " + b"x" * 10_000 + b"\r\n\r\n", b"400"),
        (b"GET /healthz?" + b"x" * 10_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n", b"400"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n" + b"x-many: x\r\n" * 200 + b"\r\n", b"400"),
        (b"POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000, b"413"),
        (b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n", b"200"),
    ],
)
async def test_what_is_too_large_is_refused(request_: bytes, status: bytes) -> None:
    async with connected() as (reader, writer), asyncio.timeout(20):
        writer.write(request_)
        assert (await reader.readline()).split()[1] == status
