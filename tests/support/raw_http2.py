"""A caller that speaks HTTP/2 by hand, and so can do what no client library would."""

import asyncio
import struct
from typing import Self

HEADERS, DATA, RESET, SETTINGS, PING, GOAWAY, CONTINUATION = 1, 0, 3, 4, 6, 7, 9
_END_OF_HEADERS, _ACK = 4, 1
_INITIAL_WINDOW = 4
_HEAD_BYTES = 9
_FRAME_BYTES = 16_384


class RawCaller:
    """One connection. Streams have odd numbers, growing."""

    def __init__(self, port: int, *, window: int | None = None) -> None:
        """Prepare.

        Args:
            port: Where to.
            window: Bytes of a stream's answer that may come unasked; None: as HTTP/2 has it.
        """
        self._port = port
        self._settings = b"" if window is None else struct.pack(">HI", _INITIAL_WINDOW, window)
        self.frames: list[tuple[int, int, bytes]] = []
        """Type, stream and payload of what came."""
        self._come = asyncio.Condition()

    async def __aenter__(self) -> Self:
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        self._writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(SETTINGS, 0, 0, self._settings))
        self._reading = asyncio.create_task(self._read())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._reading.cancel()
        self._writer.close()

    async def open(self, stream: int, path: str, *more: tuple[str, str]) -> None:
        """Begin a call."""
        fields = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
        fields += [("content-type", "application/grpc"), ("te", "trailers"), *more]
        block = b"".join(b"\0" + _literal(name) + _literal(value) for name, value in fields)
        parts = [block[start : start + _FRAME_BYTES] for start in range(0, len(block), _FRAME_BYTES)]
        for number, part in enumerate(parts):
            flags = _END_OF_HEADERS if number == len(parts) - 1 else 0
            self._writer.write(_frame(CONTINUATION if number else HEADERS, flags, stream, part))
        await self._writer.drain()

    async def begin_message(self, stream: int, size: int, sent: bytes) -> None:
        """Announce a message, and send the beginning of it."""
        self._writer.write(_frame(DATA, 0, stream, struct.pack(">BI", 0, size) + sent))
        await self._writer.drain()

    async def wait_for(self, kind: int, stream: int) -> bytes:
        """Wait for a frame of a stream; its payload."""
        async with asyncio.timeout(20), self._come:
            while True:
                for seen, of, payload in self.frames:
                    if (seen, of) == (kind, stream):
                        return payload
                await self._come.wait()

    def count(self, kind: int) -> int:
        """How many frames of a kind came."""
        return sum(seen == kind for seen, _, _ in self.frames)

    async def _read(self) -> None:
        while head := await self._reader.readexactly(_HEAD_BYTES):
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
            kind, flags, stream = head[3], head[4], int.from_bytes(head[5:], "big")
            if kind in (SETTINGS, PING) and not flags & _ACK:
                self._writer.write(_frame(kind, _ACK, 0, payload if kind == PING else b""))
            async with self._come:
                self.frames.append((kind, stream, payload))
                self._come.notify_all()


def _frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _literal(text: str) -> bytes:
    """A text of HPACK, uncompressed."""
    octets = text.encode()
    rest = len(octets) - 127  # a length of 127 or more goes on in further bytes, seven bits each
    if rest < 0:
        return bytes([len(octets)]) + octets
    length = [127]
    while rest > 127:
        length.append(rest % 128 + 128)
        rest //= 128
    return bytes([*length, rest]) + octets
