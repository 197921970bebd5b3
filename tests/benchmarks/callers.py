"""Callers of an ingress, in a process of their own.

python -m benchmarks.callers ADDRESS one|batch|large IN_FLIGHT SECONDS: as many calls at once as told; prints JSON:
emails accepted in a second, latency p50 and p99 in ms, refusals by code. The requests are made before the clock starts.
python -m benchmarks.callers ADDRESS overload RATE SECONDS: a call each 1/RATE seconds, whether the earlier ones are
answered or not; the same JSON.
python -m benchmarks.callers ADDRESS probes COUNT PAUSE_S: one urgent email after the other; when each was called.
"""

import asyncio
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import grpc
import orjson
import uvloop
from benchmarks.figures import percentile
from benchmarks.stage import HTML

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, SendEmailRequest

_BATCH = 100
_SERVICE = "/sred.email.v1.EmailDispatchService/"
_CHANNELS = 4
_MADE_BEFORE = {"one": 6000, "large": 600, "batch": 200}
"""Requests for each second that the calls are to last: more than any ingress takes."""


def request(number: int, run: str, subject: str = "Hello", html: str = HTML) -> SendEmailRequest:
    """One email, with a key of its own."""
    return SendEmailRequest(
        idempotency_key=f"{run}-{number}",
        kind=email_pb2.EMAIL_KIND_WELCOME,
        to=[f"user{number}@example.com"],
        inline=email_pb2.InlineContent(subject=f"{subject} {number}", html=html),
    )


async def flood(address: str, mode: str, in_flight: int, seconds: float) -> dict[str, Any]:
    """Call as fast as the answers come."""
    run = os.urandom(6).hex()
    made = iter(range(10**9))

    def message() -> bytes:
        if mode != "batch":
            html = HTML * 30 if mode == "large" else HTML
            return request(next(made), run, html=html).SerializeToString()
        return BatchSendEmailsRequest(requests=[request(next(made), run) for _ in range(_BATCH)]).SerializeToString()

    messages = iter([message() for _ in range(int(_MADE_BEFORE[mode] * seconds))])
    latencies: list[float] = []
    refused: Counter[str] = Counter()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CHANNELS)]
    name = _SERVICE + ("BatchSendEmails" if mode == "batch" else "SendEmail")
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(in_flight):
            call: Any = channels[number % _CHANNELS].unary_unary(name)
            group.create_task(_caller(call, messages, began_s + seconds, latencies, refused))
    took_s = time.perf_counter() - began_s
    emails = len(latencies) * (_BATCH if mode == "batch" else 1)
    for channel in channels:
        await channel.close()
    latencies.sort()
    return {
        "emails": emails,
        "per_second": emails / took_s,
        "p50_ms": percentile(latencies, 50) * 1000,
        "p99_ms": percentile(latencies, 99) * 1000,
        "refused": dict(refused),
    }


async def overload(address: str, rate: float, seconds: float) -> dict[str, Any]:
    """Call at a rate, whatever becomes of the calls."""
    run = os.urandom(6).hex()
    messages = [request(number, run).SerializeToString() for number in range(int(rate * seconds))]
    latencies: list[float] = []
    refused: Counter[str] = Counter()
    options = [("grpc.use_local_subchannel_pool", 1)]
    channels = [grpc.aio.insecure_channel(address, options=options) for _ in range(_CHANNELS)]
    calls: list[Any] = [channel.unary_unary(_SERVICE + "SendEmail") for channel in channels]
    loop = asyncio.get_running_loop()
    began_s = loop.time()
    async with asyncio.TaskGroup() as group:
        for number, message in enumerate(messages):
            ahead_s = began_s + number / rate - loop.time()
            if ahead_s > 0 or number % 20 == 0:
                await asyncio.sleep(max(0, ahead_s))
            once = iter([message])
            group.create_task(_caller(calls[number % _CHANNELS], once, float("inf"), latencies, refused))
        offered_s = loop.time() - began_s
    took_s = loop.time() - began_s
    for channel in channels:
        await channel.close()
    latencies.sort()
    return {
        "offered_per_second": len(messages) / offered_s,
        "emails": len(latencies),
        "per_second": len(latencies) / took_s,
        "p50_ms": percentile(latencies, 50) * 1000,
        "p99_ms": percentile(latencies, 99) * 1000,
        "refused": dict(refused),
    }


async def _caller(
    call: Any,
    messages: Iterator[bytes],
    until_s: float,
    latencies: list[float],
    refused: Counter[str],
) -> None:
    while (began_s := time.perf_counter()) < until_s:
        message = next(messages, None)
        if message is None:
            return
        try:
            await call(message)
        except grpc.aio.AioRpcError as e:
            refused[e.code().name] += 1
        else:
            latencies.append(time.perf_counter() - began_s)


async def probes(address: str, count: int, pause_s: float) -> dict[str, Any]:
    """Send one urgent email after the other; when each was called, by its subject."""
    run = os.urandom(6).hex()
    called: dict[str, float] = {}
    async with grpc.aio.insecure_channel(address) as channel:
        call: Any = channel.unary_unary(_SERVICE + "SendEmail")
        await call(request(0, run, "warm").SerializeToString())
        await asyncio.sleep(1)
        for number in range(count):
            message = request(number, f"{run}-p", "probe").SerializeToString()
            called[f"probe {number}"] = time.time()
            await call(message)
            await asyncio.sleep(pause_s)
    return {"called": called}


if __name__ == "__main__":
    if sys.argv[2] == "probes":
        result = uvloop.run(probes(sys.argv[1], int(sys.argv[3]), float(sys.argv[4])))
    elif sys.argv[2] == "overload":
        result = uvloop.run(overload(sys.argv[1], float(sys.argv[3]), float(sys.argv[4])))
    else:
        result = uvloop.run(flood(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
    print(orjson.dumps(result).decode())
