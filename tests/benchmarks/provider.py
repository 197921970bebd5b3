"""A stand-in for the provider that is never the limit: the answers of POST /emails and /emails/batch, and nothing else.

PYTHONPATH=tests python -m benchmarks.provider [--port 0] [--latency-ms 0] [--limit 0]

It prints its port. GET /stats answers what it was asked so far. With a limit, more requests than that in any second are
answered 429, every answer names the limit, as the real one does, and the stats tell when each request came.
"""

import argparse
import asyncio
import re
import time
from collections import deque
from typing import cast

import orjson
import uvloop

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_KEY = re.compile(rb"idempotency-key: *([^\r]+)", re.IGNORECASE)
_SUBJECT = re.compile(rb'"subject":"(probe[^"]*)"')
_REASONS = {200: b"OK", 404: b"Not Found", 409: b"Conflict", 429: b"Too Many Requests"}


class Provider:
    """What came, and what is answered."""

    def __init__(self, *, latency_s: float, limit: int) -> None:
        self.latency_s = latency_s
        self._limit = limit
        self._recent: deque[float] = deque()
        self._keys: dict[bytes, int] = {}
        self.requests = self.emails = self.refused = self.doubled = 0
        self.first_s = self.last_s = 0.0
        self.probes: dict[str, float] = {}
        self.arrivals: list[float] = []

    def answer(self, path: bytes, key: bytes, body: bytes) -> tuple[int, bytes, bytes]:
        """Status, further headers and body."""
        now_s = time.time()
        headers = b""
        if self._limit:
            while self._recent and self._recent[0] <= now_s - 1:
                self._recent.popleft()
            left = max(0, self._limit - len(self._recent) - 1)
            headers = b"ratelimit-limit: %d\r\nratelimit-remaining: %d\r\nratelimit-reset: 1\r\n" % (self._limit, left)
            if len(self._recent) >= self._limit:
                self.refused += 1
                wrong = {"statusCode": 429, "name": "rate_limit_exceeded", "message": "Too many requests."}
                return 429, headers + b"retry-after: 1\r\n", orjson.dumps(wrong)
            self._recent.append(now_s)
            self.arrivals.append(now_s)
        if self._keys.setdefault(key, hash(body)) != hash(body):
            self.doubled += 1
            wrong = {"statusCode": 409, "name": "invalid_idempotent_request", "message": "Another body."}
            return 409, headers, orjson.dumps(wrong)
        self.requests += 1
        self.first_s = self.first_s or now_s
        self.last_s = now_s
        for subject in _SUBJECT.findall(body):
            self.probes.setdefault(subject.decode(), now_s)
        if path == b"/emails":
            self.emails += 1
            return 200, headers, b'{"id":"m-%d"}' % self.emails
        count = body.count(b'{"from":')
        ids = b",".join(b'{"id":"m-%d"}' % (self.emails + n) for n in range(count))
        self.emails += count
        return 200, headers, b'{"data":[' + ids + b"]}"

    def stats(self) -> bytes:
        """What came so far."""
        names = ("requests", "emails", "refused", "doubled", "first_s", "last_s", "probes", "arrivals")
        return orjson.dumps({name: getattr(self, name) for name in names})


class Connection(asyncio.Protocol):
    """HTTP/1.1 with keep-alive, as far as one client needs it."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._unread = b""
        self._transport: asyncio.Transport | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._unread += data
        while (end := self._unread.find(b"\r\n\r\n")) >= 0:
            head = self._unread[:end]
            length = _LENGTH.search(head)
            total = end + 4 + (int(length[1]) if length else 0)
            if len(self._unread) < total:
                return
            body, self._unread = self._unread[end + 4 : total], self._unread[total:]
            self._answer(head, body)

    def _answer(self, head: bytes, body: bytes) -> None:
        path = head.split(b" ", 2)[1]
        if path == b"/stats":
            self._write(200, b"", self._provider.stats())
            return
        key = _KEY.search(head)
        status, headers, answer = self._provider.answer(path, key[1] if key else b"", body)
        if self._provider.latency_s:
            asyncio.get_running_loop().call_later(self._provider.latency_s, self._write, status, headers, answer)
        else:
            self._write(status, headers, answer)

    def _write(self, status: int, headers: bytes, body: bytes) -> None:
        if self._transport is not None and not self._transport.is_closing():
            head = b"HTTP/1.1 %d %s\r\ncontent-type: application/json\r\n" % (status, _REASONS[status])
            self._transport.write(head + headers + b"content-length: %d\r\n\r\n" % len(body) + body)


async def serve(port: int, provider: Provider) -> None:
    """Answer until the process ends."""
    server = await asyncio.get_running_loop().create_server(lambda: Connection(provider), "127.0.0.1", port)
    print(server.sockets[0].getsockname()[1], flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency-ms", type=float, default=0)
    parser.add_argument("--limit", type=int, default=0)
    options = parser.parse_args()
    uvloop.run(serve(options.port, Provider(latency_s=options.latency_ms / 1000, limit=options.limit)))
