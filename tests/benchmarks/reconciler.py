"""What the reconciler costs with many emails waiting in a healthy queue, and how long it takes after a flush.

Run it on a quiet machine: .venv/bin/python tests/benchmarks/reconciler.py [--emails 100000] [--seconds 60]
CPU time is that of the ingress, PostgreSQL and Valkey with all their processes, with the default settings; the idle
figure is the same without reconciling.
"""

import argparse
import asyncio
import os
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import aiohttp
import asyncpg
import psutil
from redis.asyncio import Redis

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.ports import free_port
from sred_email_local.process import Process

_COLUMNS = ["id", "idempotency_key", "fingerprint", "kind", "priority", "status", "from_address", "recipients"]
_BODY_BYTES = 2000


async def fill(dsn: str, emails: int) -> None:
    """Accept emails with bodies of 2 kB, an hour ago: new ones are looked at once more than the rest."""
    content = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hello", html="x" * _BODY_BYTES)
    message = content.SerializeToString()
    rows = []
    hour_ago_ms = int((time.time() - 3600) * 1000)
    for number in range(emails):
        email_id = uuid.UUID(int=(hour_ago_ms << 80) | (7 << 76) | (2 << 62) | number)
        row = (email_id, f"key-{number}", b"f" * 32, "WELCOME", "NORMAL", "QUEUED", "a@example.com", ["b@example.com"])
        rows.append((*row, "Hello", message))
    connection = await asyncpg.connect(dsn)
    await connection.copy_records_to_table("email_send_log", records=rows, columns=[*_COLUMNS, "subject", "message"])
    await connection.execute("UPDATE email_send_log SET updated_at = now() - interval '1 hour'")
    await connection.execute("VACUUM ANALYZE email_send_log")
    await connection.close()


@asynccontextmanager
async def ingress(folder: Path, dsn: str, redis_url: str, **env: str) -> AsyncIterator[tuple[Process, str]]:
    """A real one; it and the address of its metrics."""
    http_port = free_port()
    process = Process(
        "ingress",
        [Path(sys.executable).parent / "sred-email-ingress"],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith("SRED_EMAIL_")},
            "SRED_EMAIL_AUTH": "off",
            "SRED_EMAIL_POSTGRES_DSN": dsn,
            "SRED_EMAIL_REDIS_URL": redis_url,
            "SRED_EMAIL_INGRESS_GRPC_LISTEN": f"127.0.0.1:{free_port()}",
            "SRED_EMAIL_INGRESS_HTTP_LISTEN": f"127.0.0.1:{http_port}",
            **env,
        },
        log=folder / "ingress.log",
    )
    process.start()
    try:
        yield process, f"http://127.0.0.1:{http_port}/metrics"
    finally:
        await process.stop()


async def mended(metrics: str) -> float:
    """How much the ingress says that it has mended."""
    async with aiohttp.ClientSession() as session, session.get(metrics) as response:
        lines = (await response.text()).splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith("sred_email_ingress_mended_total{"))


async def all_published(redis: Redis, keys: QueueKeys, emails: int) -> float:
    """Wait until every email has a place and the sweep is sealed; seconds it took."""
    began = time.monotonic()
    places = 0
    while places < emails or b" sweep " in (await redis.get(keys.epoch) or b" sweep "):
        await asyncio.sleep(0.1)
        places = await redis.hlen(keys.places)
        if time.monotonic() - began > 300:
            raise TimeoutError(f"{places} of {emails} emails have a place")
    return time.monotonic() - began


def cpu_seconds(*pids: int) -> list[float]:
    """Of each process with all that it started, those that have ended too."""
    return [
        sum(sum(each.cpu_times()[:4]) if each.pid == pid else sum(each.cpu_times()[:2]) for each in tree(pid))
        for pid in pids
    ]


def tree(pid: int) -> list[psutil.Process]:
    """A process and its descendants."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


async def at_rest(redis: Redis) -> None:
    """Wait until Valkey has put its own files in order: that is not what is measured."""
    await asyncio.sleep(15)
    while (await redis.info("persistence"))["aof_rewrite_in_progress"]:
        await asyncio.sleep(1)


async def cost(pids: list[int], seconds: float, what: str) -> None:
    """Print what the processes use while time passes."""
    before = cpu_seconds(*pids)
    await asyncio.sleep(seconds)
    used = [after - earlier for earlier, after in zip(before, cpu_seconds(*pids), strict=True)]
    names = ("ingress", "PostgreSQL", "Valkey")
    parts = ", ".join(f"{name} {spent:.2f}" for name, spent in zip(names, used, strict=True))
    print(f"{what}: {sum(used):.2f} CPU s in {seconds:g} s = {sum(used) / seconds:.2%} of a core ({parts})")


async def main(emails: int, seconds: float) -> None:
    """Measure and print."""
    keys = QueueKeys()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # noqa: S103, PTH101 - PostgreSQL may run as another user
        postgres = PostgresServer(folder / "postgres")
        valkey = ValkeyServer(folder / "valkey")
        async with postgres, valkey, open_redis(valkey.url, timeout=timedelta(seconds=10)) as redis:
            await migrate(postgres.dsn)
            await fill(postgres.dsn, emails)
            engines = [postgres.process.pid, valkey.process.pid]
            async with ingress(folder, postgres.dsn, valkey.url) as (process, metrics):
                print(f"{emails} emails, first time: published after {await all_published(redis, keys, emails):.1f} s")
                await at_rest(redis)
                before = await mended(metrics)
                await cost([process.pid, *engines], seconds, "healthy")
                print(f"mended meanwhile: {await mended(metrics) - before:g}")
                await redis.flushall()
                print(f"flushed: all published after {await all_published(redis, keys, emails):.1f} s")
            async with ingress(folder, postgres.dsn, valkey.url, SRED_EMAIL_RECONCILE_INTERVAL="86400") as (process, _):
                await at_rest(redis)
                await cost([process.pid, *engines], seconds, "idle")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--emails", type=int, default=100_000)
    parser.add_argument("--seconds", type=float, default=60)
    arguments = parser.parse_args()
    asyncio.run(main(arguments.emails, arguments.seconds))
