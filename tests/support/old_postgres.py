"""As much of a PostgreSQL of another version as a client sees when it connects."""

import asyncio
import struct
from types import TracebackType
from typing import Self

from sred_email_local.ports import LOOPBACK


class GreetingServer:
    """Says hello as a server of some version, and answers nothing else."""

    def __init__(self, version: str) -> None:
        self._version = version
        self._server: asyncio.Server | None = None
        self._greeting: set[asyncio.Task[None]] = set()

    @property
    def dsn(self) -> str:
        """Where it is."""
        assert self._server is not None
        return f"postgresql://postgres@{LOOPBACK}:{self._server.sockets[0].getsockname()[1]}/postgres?sslmode=disable"

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connected, LOOPBACK, 0)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, e: BaseException | None, t: TracebackType | None
    ) -> None:
        assert self._server is not None
        self._server.close()
        await asyncio.gather(*self._greeting)

    def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._greeting.add(asyncio.create_task(self._greet(reader, writer)))

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        (length,) = struct.unpack("!I", await reader.readexactly(4))
        await reader.readexactly(length - 4)
        writer.write(_message(b"R", struct.pack("!I", 0)))
        for name, value in (("server_version", self._version), ("client_encoding", "UTF8")):
            writer.write(_message(b"S", name.encode() + b"\0" + value.encode() + b"\0"))
        writer.write(_message(b"K", struct.pack("!II", 4711, 1)))
        writer.write(_message(b"Z", b"I"))
        while kind := await reader.read(1):
            (length,) = struct.unpack("!I", await reader.readexactly(4))
            await reader.readexactly(length - 4)
            if kind == b"Q":
                writer.write(_message(b"C", b"SELECT 1\0") + _message(b"Z", b"I"))
        writer.close()


def _message(kind: bytes, body: bytes) -> bytes:
    return kind + struct.pack("!I", len(body) + 4) + body
