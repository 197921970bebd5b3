"""What is measured: one function a row of the table."""

import asyncio
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import orjson
from benchmarks.figures import Measured, Target, percentile
from benchmarks.stage import TESTS, Stage, StandIn, bare, cpu_s, peak_mb, provider, service

from sred_email_core.queue.keys import Lane
from sred_email_local.process import Process

_EMAILS_PER_REQUEST = 100


@dataclass(frozen=True, slots=True)
class Size:
    """How long to measure.

    Attributes:
        runs: Of each row.
        seconds: Of calls.
        share: Of the emails of a full measurement.
    """

    runs: int
    seconds: float
    share: float

    def emails(self, full: int) -> int:
        """How many."""
        return max(2 * _EMAILS_PER_REQUEST, int(full * self.share))


Row = Callable[[Stage, Size], Awaitable[list[Measured]]]
ROWS: dict[str, Row] = {}


def row(function: Row) -> Row:
    """Let a function be a row, by its name."""
    ROWS[function.__name__] = function
    return function


@asynccontextmanager
async def pair(stage: Stage, *, limit: int = 0) -> AsyncIterator[tuple[StandIn, Process, Process, str]]:
    """A provider, an ingress and a consumer; and the address of the ingress."""
    async with (
        provider(limit=limit) as stand_in,
        service("ingress", stage, stand_in) as (ingress, address),
        service("consumer", stage, stand_in, resend_requests_per_second=limit) as (consumer, _),
    ):
        yield stand_in, ingress, consumer, address


# The ingress


@row
async def send_email(stage: Stage, size: Size) -> list[Measured]:
    """SendEmail, 256 in flight, one ingress process."""
    target = Target(0.75, "75 % of the bare loop", of_ratio=True)
    measured = Measured("send_email", "SendEmail, 256 in flight", "emails/s", target)
    return [await _calls(stage, size, measured, "one", 256)]


@row
async def batch_send(stage: Stage, size: Size) -> list[Measured]:
    """BatchSendEmails of 100, 8 in flight."""
    target = Target(0.60, "60 % of the bare loop", of_ratio=True)
    measured = Measured("batch_send", "BatchSendEmails of 100, 8 in flight", "emails/s", target)
    return [await _calls(stage, size, measured, "batch", 8)]


async def _calls(stage: Stage, size: Size, measured: Measured, mode: str, in_flight: int) -> Measured:
    async with provider() as stand_in:
        for _ in range(size.runs):
            await stage.empty()
            async with bare("bare_ingress", stage) as (_, address):
                told = await called(address, mode, in_flight, size.seconds)
                measured.bare.append(told["per_second"])
            await stage.empty()
            async with service("ingress", stage, stand_in) as (process, address):
                before_s = cpu_s(process.pid)
                told = await called(address, mode, in_flight, size.seconds)
                measured.runs.append(told["per_second"])
                us = (cpu_s(process.pid) - before_s) / max(1, told["emails"]) * 1e6
                measured.notes = {**told, "cpu_us_per_email": us, "peak_mb": peak_mb(process.pid)}
    return measured


async def called(address: str, *arguments: object) -> dict[str, Any]:
    command = [sys.executable, "-m", "benchmarks.callers", address, *map(str, arguments)]
    environment = {"PYTHONPATH": str(TESTS)}
    result = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, check=True, env=environment, text=True
    )
    answer: dict[str, Any] = orjson.loads(result.stdout)
    return answer


@row
async def idle_latency(stage: Stage, size: Size) -> list[Measured]:
    """One SendEmail at a time, from the call to the provider's socket."""
    at_half = Measured("idle_p50", "one SendEmail, idle, to the provider: p50", "ms", Target(4, "4 ms", at_most=True))
    at_end = Measured("idle_p99", "the same: p99", "ms", Target(12, "12 ms", at_most=True))
    for _ in range(size.runs):
        await stage.empty()
        async with pair(stage) as (stand_in, _, _, address):
            latencies = await _probe(stand_in, address, max(50, int(300 * size.share)), 0.01)
        at_half.runs.append(percentile(latencies, 50) * 1000)
        at_end.runs.append(percentile(latencies, 99) * 1000)
    return [at_half, at_end]


async def _probe(stand_in: Any, address: str, count: int, pause_s: float) -> list[float]:
    """Seconds from call to provider of urgent emails, smallest first; those that never came took for ever."""
    made: dict[str, float] = (await called(address, "probes", count, pause_s))["called"]
    deadline = time.monotonic() + 30
    while True:
        came: dict[str, float] = (await stand_in.stats())["probes"]
        if made.keys() <= came.keys() or time.monotonic() > deadline:
            break
        await asyncio.sleep(0.1)
    return sorted(came.get(subject, float("inf")) - at for subject, at in made.items())


# The consumer


@row
async def drain_batched(stage: Stage, size: Size) -> list[Measured]:
    """A backlog, by batches, one consumer process."""
    target = Target(0.75, "75 % of the bare loop", of_ratio=True)
    measured = Measured("drain_batched", "draining a backlog, batches, one consumer", "emails/s", target)
    return [await _drain(stage, size, measured, emails=60_000, batch_size=100, slots=16)]


@row
async def drain_single(stage: Stage, size: Size) -> list[Measured]:
    """A backlog, one email a request, 128 slots."""
    target = Target(0.65, "65 % of the bare loop", of_ratio=True)
    measured = Measured("drain_single", "draining a backlog, one email a request, 128 slots", "emails/s", target)
    return [await _drain(stage, size, measured, emails=25_000, batch_size=1, slots=128)]


async def _drain(stage: Stage, size: Size, measured: Measured, *, emails: int, batch_size: int, slots: int) -> Measured:
    count = size.emails(emails)
    for _ in range(size.runs):
        await stage.empty()
        await stage.fill(count)
        async with provider() as stand_in, bare("bare_consumer", stage, stand_in.url, batch_size, slots):
            measured.bare.append(await _rate(stage, stand_in, count))
        await stage.empty()
        await stage.fill(count)
        rate, measured.notes = await drained(stage, count, resend_batch_size=batch_size, consumer_slots=slots)
        measured.runs.append(rate)
    return measured


async def drained(
    stage: Stage,
    emails: int,
    consumers: int = 1,
    *,
    latency_ms: float = 0,
    limit: int = 0,
    ended_before: int = 0,
    **settings: object,
) -> tuple[float, dict[str, Any]]:
    """Drain what waits; emails a second until the last is recorded, and what it cost."""
    async with AsyncExitStack() as stack:
        stand_in = await stack.enter_async_context(provider(latency_ms=latency_ms, limit=limit))
        started = [service("consumer", stage, stand_in, **settings) for _ in range(consumers)]
        processes = [(await stack.enter_async_context(s))[0] for s in started]
        rate = await _rate(stage, stand_in, emails, ended_before)
        stats = await stand_in.stats()
        return rate, {
            "requests": stats["requests"],
            "refused_429": stats["refused"],
            "arrivals": stats["arrivals"],
            "doubled": stats["doubled"],
            "came_in_s": stats["last_s"] - stats["first_s"],
            "cpu_us_per_email": sum(cpu_s(p.pid) for p in processes) / emails * 1e6,
            "peak_mb": max(peak_mb(p.pid) for p in processes),
        }


async def _rate(stage: Stage, stand_in: Any, emails: int, ended_before: int = 0) -> float:
    stats = await stand_in.until(emails)
    while await stage.ended() < emails + ended_before:
        await asyncio.sleep(0.05)
    return emails / (time.time() - float(stats["first_s"]))


@row
async def two_consumers(stage: Stage, size: Size) -> list[Measured]:
    """Two consumers beside one, and three."""
    count = size.emails(60_000)
    rows = []
    target = Target(1.0, "never less than one", of_ratio=True)
    for consumers in (2, 3):
        what = f"draining a backlog, batches, {consumers} consumers instead of one"
        measured = Measured(f"{consumers}_consumers", what, "emails/s", target if consumers == 2 else None)
        for _ in range(size.runs):
            for many, into in ((1, measured.bare), (consumers, measured.runs)):
                await stage.empty()
                await stage.fill(count)
                rate, measured.notes = await drained(stage, count, many)
                into.append(rate)
        rows.append(measured)
    return rows


# At a limit


@row
async def limits(stage: Stage, size: Size) -> list[Measured]:
    """Draining at a limit of the provider, two consumers."""
    rows = []
    for limit in (2, 10):
        target = Target(0.97, "97 % of the limit, no 429", of_ratio=True)
        measured = Measured(f"limit_{limit}", f"draining at {limit} requests/s, two consumers", "emails/s", target)
        for _ in range(size.runs):
            requests = limit * (10 if size.share < 1 else 20)
            await stage.empty()
            await stage.fill(requests * _EMAILS_PER_REQUEST)
            _, notes = await drained(
                *(stage, requests * _EMAILS_PER_REQUEST, 2), limit=limit, resend_requests_per_second=limit
            )
            lasting = notes.pop("arrivals")[2 * limit :]  # the first window's requests go at once
            measured.runs.append((len(lasting) - 1) * _EMAILS_PER_REQUEST / (lasting[-1] - lasting[0]))
            measured.bare.append(limit * _EMAILS_PER_REQUEST if not notes["refused_429"] else float("inf"))
            measured.notes = notes
        rows.append(measured)
    return rows


@row
async def high_under_low(stage: Stage, size: Size) -> list[Measured]:
    """HIGH emails under a backlog of LOW, at two requests a second."""
    target = Target(1000, "1 s, two slots", at_most=True)
    low = size.emails(100_000)
    measured = Measured("high_under_low", f"HIGH under {low:,} LOW at 2 requests/s: p99", "ms", target)
    for _ in range(size.runs):
        await stage.empty()
        await stage.fill(low, Lane.LOW)
        async with pair(stage, limit=2) as (stand_in, _, _, address):
            latencies = await _probe(stand_in, address, max(10, int(40 * size.share)), 0.73)
            refused = (await stand_in.stats())["refused"]
        measured.runs.append(percentile(latencies, 99) * 1000)
        measured.notes = {"p50_ms": percentile(latencies, 50) * 1000, "refused_429": refused}
    return [measured]


# What else is good to know


@row
async def costs(stage: Stage, size: Size) -> list[Measured]:
    """CPU and memory of everything, for emails that are accepted and sent at the same time."""
    target = Target(150, "150 MB", at_most=True)
    memory = Measured("memory", "peak memory of a service while both work", "MB", target)
    names = ("ingress", "consumer", "postgres", "valkey")
    cpu = {name: Measured(f"cpu_{name}", f"CPU of {name} for 1,000 emails", "s", None) for name in names}
    for _ in range(size.runs):
        await stage.empty()
        async with pair(stage) as (stand_in, ingress, consumer, address):
            pids = dict(
                zip(
                    names,
                    (ingress.pid, consumer.pid, stage.postgres.process.pid, stage.valkey.process.pid),
                    strict=True,
                )
            )
            before = {name: cpu_s(pid) for name, pid in pids.items()}
            emails = (await called(address, "batch", 4, size.seconds))["emails"]
            await stand_in.until(emails)
            for name, pid in pids.items():
                cpu[name].runs.append((cpu_s(pid) - before[name]) / emails * 1000)
            memory.runs.append(max(peak_mb(ingress.pid), peak_mb(consumer.pid)))
            memory.notes = {"ingress_mb": peak_mb(ingress.pid), "consumer_mb": peak_mb(consumer.pid), "emails": emails}
    return [memory, *cpu.values()]
