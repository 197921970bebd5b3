"""A TCP connection that can be cut, stalled and led elsewhere: what stands between two processes and can fail."""

import asyncio
import socket
import struct
from typing import Final, Self

from sred_email_local.ports import LOOPBACK, free_port

_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class TcpProxy:
    """Forwards connections of the loopback interface to another port, until it is told not to.

    Args:
        upstream_port: Where connections lead.
        port: Where it listens; a free one if None.
    """

    def __init__(self, upstream_port: int, port: int | None = None) -> None:
        self.port: Final = port or free_port()
        self.upstream_port = upstream_port
        self._server: asyncio.Server | None = None
        self._ends: set[_End] = set()
        self._connecting: set[asyncio.Task[None]] = set()
        self._requests_held = self._answers_held = False

    async def __aenter__(self) -> Self:
        await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stop_listening()
        self.cut()
        for task in self._connecting:
            task.cancel()

    @property
    def connections(self) -> int:
        """How many are open."""
        return sum(end.is_client for end in self._ends)

    def cut(self) -> None:
        """Reset every open connection; new ones are forwarded as before."""
        for end in list(self._ends):
            end.abort()

    def stall(self, *, answers_only: bool = False) -> None:
        """Hold back what is sent, without closing anything: nothing is lost, and nobody is told.

        Args:
            answers_only: What clients send still arrives, so that requests take effect and no answer comes.
        """
        self._requests_held, self._answers_held = not answers_only, True
        self._apply()

    async def refuse(self) -> None:
        """Reset every open connection and refuse new ones, as a host without the server would."""
        await self._stop_listening()
        self.cut()

    async def resume(self) -> None:
        """Forward what was held back, and accept connections again."""
        self._requests_held = self._answers_held = False
        self._apply()
        if self._server is None:
            await self._listen()

    def lead_to(self, upstream_port: int) -> None:
        """Lead to another server from now on; open connections are reset."""
        self.upstream_port = upstream_port
        self.cut()

    async def _listen(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: _End(self, is_client=True), LOOPBACK, self.port, backlog=512)

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    def _apply(self) -> None:
        for end in self._ends:
            self._hold(end)

    def _hold(self, end: "_End") -> None:
        end.hold(held=self._requests_held if end.is_client else self._answers_held)

    def opened(self, end: "_End") -> None:
        """Take note of one side of a connection; connect the other side, if it came from a client."""
        self._ends.add(end)
        self._hold(end)
        if end.is_client:
            task = asyncio.get_running_loop().create_task(self._connect(end))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    def closed(self, end: "_End") -> None:
        """Forget one side of a connection."""
        self._ends.discard(end)

    async def _connect(self, client: "_End") -> None:
        try:
            _, upstream = await asyncio.get_running_loop().create_connection(
                lambda: _End(self, is_client=False), LOOPBACK, self.upstream_port
            )
        except OSError:
            client.abort()
            return
        client.join(upstream)
        upstream.join(client)


class _End(asyncio.Protocol):
    """One side of a forwarded connection; it reads only while its other side can take what it reads."""

    def __init__(self, proxy: TcpProxy, *, is_client: bool) -> None:
        self.is_client: Final = is_client
        self._proxy: Final = proxy
        self._transport: asyncio.Transport | None = None
        self._other: _End | None = None
        self._held = self._read_to_the_end = False
        self._full = True  # until the other side is there

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._proxy.opened(self)

    def data_received(self, data: bytes) -> None:
        if self._other is not None:
            self._other.write(data)

    def eof_received(self) -> bool:
        self._read_to_the_end = True
        if self._other is not None:
            self._other.write_eof()
            if self._other.read_to_the_end:
                self._other.close()
                self.close()
        return True  # the other direction may go on

    def pause_writing(self) -> None:
        if self._other is not None:
            self._other.fill(full=True)

    def resume_writing(self) -> None:
        if self._other is not None:
            self._other.fill(full=False)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        self._proxy.closed(self)
        if self._other is not None:
            self._other.abort() if exc else self._other.close()

    @property
    def read_to_the_end(self) -> bool:
        """Whether its peer will send nothing more."""
        return self._read_to_the_end

    def join(self, other: "_End") -> None:
        """Forward what this side reads to the other."""
        self._other = other
        if self._transport is None:  # it was closed meanwhile
            other.abort()
        self.fill(full=False)

    def write(self, data: bytes) -> None:
        """Send what the other side has read."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write(data)

    def write_eof(self) -> None:
        """Send nothing more."""
        if self._transport is not None and not self._transport.is_closing():
            self._transport.write_eof()

    def hold(self, *, held: bool) -> None:
        """Read nothing while held."""
        self._held = held
        self._apply()

    def fill(self, *, full: bool) -> None:
        """Read nothing while the other side's buffer is full."""
        self._full = full
        self._apply()

    def abort(self) -> None:
        """Reset this side; the other one follows."""
        if self._transport is not None:
            self._transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
            self._transport.abort()

    def close(self) -> None:
        """Close this side when everything is written."""
        if self._transport is not None:
            self._transport.close()

    def _apply(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        if self._held or self._full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()
