import asyncio
from collections.abc import AsyncIterator

import pytest

from sred_email_local.ports import LOOPBACK, free_port
from support.tcp_proxy import TcpProxy
from support.world import until


class Echo:
    """A server that sends back what it reads, and remembers it."""

    def __init__(self) -> None:
        self.port = free_port()
        self.heard = b""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while data := await reader.read(65536):
                self.heard += data
                writer.write(data)
                await writer.drain()
        except ConnectionError:
            pass
        finally:
            writer.close()


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    server = Echo()
    async with await asyncio.start_server(server.serve, LOOPBACK, server.port):
        yield server


@pytest.fixture
async def proxy(echo: Echo) -> AsyncIterator[TcpProxy]:
    async with TcpProxy(echo.port) as running:
        yield running


async def connect(proxy: TcpProxy) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(LOOPBACK, proxy.port)


async def test_what_is_sent_comes_back_whole_and_the_end_is_passed_on(proxy: TcpProxy) -> None:
    reader, writer = await connect(proxy)
    sent = bytes(range(256)) * 20_000  # more than the buffers on the way hold
    writer.write(sent)
    writer.write_eof()
    assert await reader.read() == sent
    writer.close()
    await until(lambda: _closed(proxy), "the connection is closed on both sides")


async def test_a_stalled_connection_holds_everything_back_and_loses_nothing(proxy: TcpProxy, echo: Echo) -> None:
    reader, writer = await connect(proxy)
    writer.write(b"a")
    assert await reader.read(1) == b"a"
    proxy.stall()
    writer.write(b"b")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    assert echo.heard == b"a"
    await proxy.resume()
    assert await reader.read(1) == b"b"
    writer.close()


async def test_a_connection_made_while_stalled_waits_too(proxy: TcpProxy) -> None:
    proxy.stall()
    reader, writer = await connect(proxy)
    writer.write(b"a")
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.read(1), 0.1)
    await proxy.resume()
    assert await reader.read(1) == b"a"
    writer.close()


async def test_with_answers_stalled_requests_take_effect(proxy: TcpProxy, echo: Echo) -> None:
    proxy.stall(answers_only=True)
    reader, writer = await connect(proxy)
    writer.write(b"a")
    await until(lambda: _heard(echo, b"a"), "the server has it")
    proxy.cut()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def test_refused_connections_are_accepted_again_after_resume(proxy: TcpProxy) -> None:
    reader, _ = await connect(proxy)
    await proxy.refuse()
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    with pytest.raises(ConnectionRefusedError):
        await connect(proxy)
    await proxy.resume()
    reader, writer = await connect(proxy)
    writer.write(b"a")
    assert await reader.read(1) == b"a"
    writer.close()


async def test_new_connections_lead_to_another_server_when_told(proxy: TcpProxy) -> None:
    other = Echo()
    async with await asyncio.start_server(other.serve, LOOPBACK, other.port):
        proxy.lead_to(other.port)
        reader, writer = await connect(proxy)
        writer.write(b"a")
        assert await reader.read(1) == b"a"
        assert other.heard == b"a"
        writer.close()


async def test_without_a_server_behind_it_connections_are_reset(proxy: TcpProxy) -> None:
    proxy.lead_to(free_port())
    reader, writer = await connect(proxy)
    with pytest.raises(ConnectionResetError):
        await reader.read(1)
    writer.close()


async def _closed(proxy: TcpProxy) -> bool:
    return proxy.connections == 0


async def _heard(echo: Echo, what: bytes) -> bool:
    return echo.heard == what
