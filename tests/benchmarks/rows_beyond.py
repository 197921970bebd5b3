"""What is measured beside the table: growth, scale, overload, storage, a slow provider. No targets but bounds."""

import asyncio
from contextlib import AsyncExitStack
from typing import Any

from benchmarks.figures import Measured, Target
from benchmarks.rows import Size, called, drained, pair, row
from benchmarks.stage import HTML, Stage, peak_mb, provider, service

_MB = 1024 * 1024
_LARGE_HTML = HTML * 30
"""60 kB: just under what stays in Redis."""


@row
async def growth(stage: Stage, size: Size) -> list[Measured]:
    """Draining while much waits, or after much has ended: the speed must not depend on how much."""
    rows = []
    for waiting, ended in ((1_000, 0), (100_000, 0), (1_000_000, 0), (100_000, 1_000_000)):
        if max(waiting, ended) > 100_000 and size.share < 1:
            continue
        what = f"draining {waiting:,}" + (f" beside {ended:,} that have ended" if ended else "")
        measured = Measured(f"growth_{waiting}_{ended}", f"{what}: CPU for an email", "µs", None)
        await stage.empty()
        if ended:
            await stage.fill_ended(ended)
        await stage.fill(waiting, start=ended)
        updates = await stage.updates()
        rate, measured.notes = await drained(stage, waiting, ended_before=ended)
        measured.runs.append(measured.notes["cpu_us_per_email"])
        after = await stage.updates()
        measured.notes |= {"emails_per_second": rate, "hot_updates_per_email": (after[1] - updates[1]) / waiting}
        rows.append(measured)
    return rows


@row
async def ingress_processes(stage: Stage, size: Size) -> list[Measured]:
    """SendEmail at two ingress processes instead of one."""
    measured = Measured("2_ingresses", "SendEmail, 256 in flight, 2 ingress processes instead of one", "emails/s", None)
    async with provider() as stand_in:
        for _ in range(size.runs):
            for many, into in ((1, measured.bare), (2, measured.runs)):
                await stage.empty()
                async with AsyncExitStack() as stack:
                    started = [service("ingress", stage, stand_in) for _ in range(many)]
                    addresses = [(await stack.enter_async_context(s))[1] for s in started]
                    calls = (called(address, "one", 256 // many, size.seconds) for address in addresses)
                    into.append(sum(told["per_second"] for told in await asyncio.gather(*calls)))
    return [measured]


@row
async def overload(stage: Stage, size: Size) -> list[Measured]:
    """SendEmail at twice what one process takes; how long those wait that are accepted."""
    target = Target(1000, "1 s", at_most=True)
    measured = Measured("overload", "SendEmail at twice what a process takes: p99 of what it accepts", "ms", target)
    async with provider() as stand_in:
        for _ in range(size.runs):
            await stage.empty()
            async with service("ingress", stage, stand_in) as (_, address):
                sustained = (await called(address, "one", 256, size.seconds / 2))["per_second"]
                # The flood runs late on a machine that it shares; a witness with few calls tells what a caller sees.
                floods = [asyncio.create_task(called(address, "overload", sustained, size.seconds)) for _ in range(2)]
                await asyncio.sleep(size.seconds / 4)
                witness = await called(address, "one", 4, size.seconds / 2)
                told = [await flood for flood in floods]
            measured.runs.append(witness["p99_ms"])
            measured.notes = {
                "sustained_per_second": sustained,
                "offered_per_second": sum(f["offered_per_second"] for f in told),
                "accepted_per_second": sum(f["per_second"] for f in told),
                "refused": {code: sum(f["refused"].get(code, 0) for f in told) for f in told for code in f["refused"]},
                "witness": witness,
            }
    return [measured]


@row
async def storage(stage: Stage, size: Size) -> list[Measured]:
    """What 1,000 emails take in Redis and in PostgreSQL, while they wait and when they have ended."""
    emails = size.emails(50_000)
    measured = {
        name: Measured(f"storage_{name}", f"{what} for 1,000 emails of 2 kB", "MB", None)
        for name, what in (
            ("redis_waiting", "Redis, while they wait,"),
            ("postgres_waiting", "PostgreSQL, while they wait,"),
            ("postgres_ended", "PostgreSQL, of those that have ended,"),
            ("wal", "PostgreSQL's write-ahead log, to send"),
        )
    }

    def keep(name: str, taken: float) -> None:
        measured[name].runs.append(taken / emails * 1000 / _MB)

    for _ in range(size.runs):
        await stage.empty()
        redis_bytes, postgres_bytes, _ = await stage.sizes()
        await stage.fill(emails)
        redis_full, postgres_full, wal = await stage.sizes()
        keep("redis_waiting", redis_full - redis_bytes)
        keep("postgres_waiting", postgres_full - postgres_bytes)
        await drained(stage, emails)
        _, _, wal_after = await stage.sizes()
        keep("wal", wal_after - wal)
        await stage.vacuum()
        _, postgres_ended, _ = await stage.sizes()
        keep("postgres_ended", postgres_ended - postgres_bytes)
    return list(measured.values())


@row
async def large_bodies(stage: Stage, size: Size) -> list[Measured]:
    """Memory with bodies of 60 kB, while both services work."""
    target = Target(150, "150 MB", at_most=True)
    measured = Measured("memory_60_kb", "peak memory of a service, bodies of 60 kB", "MB", target)
    for _ in range(size.runs):
        await stage.empty()
        count = size.emails(5_000)
        await stage.fill(count, html=_LARGE_HTML)
        async with pair(stage) as (stand_in, ingress, consumer, address):
            told: dict[str, Any] = await called(address, "large", 8, size.seconds)
            await stand_in.until(count + told["emails"])
            notes = {"ingress_mb": peak_mb(ingress.pid), "consumer_mb": peak_mb(consumer.pid)}
        measured.runs.append(max(notes.values()))
        measured.notes = {**notes, "accepted": told["emails"]}
    return [measured]


@row
async def latency(stage: Stage, size: Size) -> list[Measured]:
    """Draining from a provider that takes its time, 16 slots."""
    rows = []
    for ms in (0, 80, 300):
        what = f"draining, batches, the provider answers in {ms} ms"
        measured = Measured(f"latency_{ms}", what, "emails/s", None)
        for _ in range(size.runs):
            count = size.emails(60_000 if ms == 0 else 30_000)
            await stage.empty()
            await stage.fill(count)
            rate, measured.notes = await drained(stage, count, latency_ms=ms)
            measured.runs.append(rate)
        rows.append(measured)
    return rows
