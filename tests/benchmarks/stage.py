"""What is measured on: engines that survive a crash, a provider that is never the limit, services as real processes."""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import orjson
import psutil

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import QueueScripts
from sred_email_core.redis_connection import open_redis
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.ports import free_port
from sred_email_local.process import Process

TESTS = Path(__file__).parents[1]
BODY_BYTES = 2000
HTML = "<p>" + "Hello there, world. " * (BODY_BYTES // 20) + "</p>"
_COLUMNS = ["id", "idempotency_key", "fingerprint", "kind", "priority", "status", "from_address", "recipients"]
_PAGE = 5000
_READY_S = 30
_TABLES = "email_send_log, email_sends, email_send_members, email_dead_letters, email_events"


@dataclass(frozen=True, slots=True)
class Stage:
    """Engines, and where processes write."""

    folder: Path
    postgres: PostgresServer
    valkey: ValkeyServer

    async def empty(self) -> None:
        """Forget every email."""
        connection = await asyncpg.connect(self.postgres.dsn)
        await connection.execute(f"TRUNCATE {_TABLES}")
        await connection.execute("CHECKPOINT")
        await connection.close()
        async with self.redis() as redis:
            await redis.flushall()
            runner = ScriptRunner(redis, QueueKeys())
            await runner.ensure_groups()
            dispatch = DispatchScripts(runner, QueueKeys())
            await dispatch.set_pauses(0, {})
            await dispatch.learn_limit(None)

    def redis(self) -> Any:
        """A connection to Valkey."""
        return open_redis(self.valkey.url, timeout=timedelta(seconds=30))

    async def fill(self, emails: int, lane: Lane = Lane.NORMAL, *, start: int = 0, html: str = HTML) -> None:
        """Let emails wait that were accepted before: in the log, and on their stream."""
        content = EmailContent(
            from_address="Shop <shop@example.com>", to=["ada@example.com"], subject="Hello", html=html
        )
        message = content.SerializeToString()
        now = datetime.now(UTC)
        connection = await asyncpg.connect(self.postgres.dsn)
        async with self.redis() as redis:
            scripts = QueueScripts(ScriptRunner(redis, QueueKeys()), QueueKeys())
            for first in range(start, start + emails, _PAGE):
                numbers = range(first, min(first + _PAGE, start + emails))
                ids = {n: uuid.UUID(int=(int(time.time() * 1000) << 80) | (7 << 76) | (2 << 62) | n) for n in numbers}
                rows = [
                    (
                        *(ids[n], f"{lane.name}-{n}", b"f" * 32, "SYSTEM_NOTIFICATION", lane.name, "QUEUED"),
                        *("shop@example.com", ["ada@example.com"], "Hello", message),
                    )
                    for n in numbers
                ]
                await connection.copy_records_to_table(
                    "email_send_log", records=rows, columns=[*_COLUMNS, "subject", "message"]
                )
                await scripts.publish(
                    [
                        QueuedEmail(
                            email_id=str(ids[n]),
                            kind="SYSTEM_NOTIFICATION",
                            lane=lane,
                            accepted_at=now,
                            expire_at=None,
                            content=content,
                            alone=False,
                            size_bytes=len(message),
                        )
                        for n in numbers
                    ]
                )
        await connection.execute("VACUUM ANALYZE email_send_log")
        await connection.execute("CHECKPOINT")
        await connection.close()

    async def fill_ended(self, emails: int) -> None:
        """Let there be emails that were sent long ago, in the log alone, with the events that tell of it."""
        connection = await asyncpg.connect(self.postgres.dsn, timeout=60, command_timeout=600)
        await connection.execute(
            """
            WITH written AS (
                INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address,
                                            recipients, subject, attempts, provider_message_id, delivery, created_at,
                                            sent_at, ended_at)
                SELECT ('00000000-0000-7000-8000-' || lpad(to_hex(n), 12, '0'))::uuid, 'ended-' || n,
                       decode(repeat('66', 32), 'hex'), 'SYSTEM_NOTIFICATION', 'NORMAL', 'SUCCESS',
                       'shop@example.com', ARRAY['ada@example.com'], 'Hello', 1, 'message-' || n,
                       'SENT', now() - interval '1 day', now() - interval '1 day',
                       now() - interval '1 day'
                FROM generate_series(1, $1::int) AS n
                RETURNING id
            )
            INSERT INTO email_events (email_id, what, status, attempt)
            SELECT id, 'SENT', 'SUCCESS', 1 FROM written
            """,
            emails,
        )
        await connection.execute("VACUUM ANALYZE email_send_log")
        await connection.close()

    async def updates(self) -> tuple[int, int]:
        """Rows of the log that were updated so far, and those of them that touched no index (HOT)."""
        connection = await asyncpg.connect(self.postgres.dsn)
        await connection.execute("SELECT pg_stat_clear_snapshot()")
        row = await connection.fetchrow(
            "SELECT n_tup_upd, n_tup_hot_upd FROM pg_stat_user_tables WHERE relname = 'email_send_log'"
        )
        await connection.close()
        return (row["n_tup_upd"], row["n_tup_hot_upd"]) if row else (0, 0)

    async def sizes(self) -> tuple[int, int, int]:
        """Bytes that Redis uses, that the tables of PostgreSQL use, and of write-ahead log so far."""
        connection = await asyncpg.connect(self.postgres.dsn)
        tables = [f"pg_total_relation_size('{name}')" for name in _TABLES.split(", ")]
        row = await connection.fetchrow(
            f"SELECT ({' + '.join(tables)})::bigint AS tables, (pg_current_wal_lsn() - '0/0')::bigint AS wal"
        )
        await connection.close()
        async with self.redis() as redis:
            used: int = (await redis.info("memory"))["used_memory"]
        return (used, row["tables"], row["wal"]) if row else (used, 0, 0)

    async def vacuum(self) -> None:
        """Do what autovacuum does in time."""
        connection = await asyncpg.connect(self.postgres.dsn, command_timeout=600)
        await connection.execute(f"VACUUM {_TABLES}")
        await connection.close()

    async def ended(self) -> int:
        """Emails that were sent, by the log."""
        connection = await asyncpg.connect(self.postgres.dsn)
        count: int = await connection.fetchval("SELECT count(*) FROM email_send_log WHERE status = 'SUCCESS'")
        await connection.close()
        return count


@asynccontextmanager
async def open_stage() -> AsyncIterator[Stage]:
    """Engines with durable writes: PostgreSQL with fsync, Valkey with an append-only file each second."""
    async with AsyncExitStack() as stack:
        temporary = tempfile.TemporaryDirectory(prefix="sred-bench-", ignore_cleanup_errors=True)
        folder = _folders(stack.enter_context(temporary))
        postgres = await stack.enter_async_context(
            PostgresServer(folder / "postgres", settings={"max_wal_size": "4GB", "shared_buffers": "256MB"})
        )
        valkey = await stack.enter_async_context(ValkeyServer(folder / "valkey"))
        await migrate(postgres.dsn)
        yield Stage(folder, postgres, valkey)


def _folders(path: str) -> Path:
    """One for each engine, that a server which is not run by root can reach."""
    folder = Path(path)
    folder.chmod(0o755)
    for name in ("postgres", "valkey"):
        (folder / name).mkdir()
    return folder


class StandIn:
    """The provider's process."""

    def __init__(self, process: "subprocess.Popen[str]", port: int) -> None:
        self.process = process
        self.url = f"http://127.0.0.1:{port}"

    async def stats(self) -> dict[str, Any]:
        """What it was asked so far."""
        async with aiohttp.ClientSession() as session, session.get(f"{self.url}/stats") as response:
            answer: dict[str, Any] = orjson.loads(await response.read())
            return answer

    async def until(self, emails: int, *, timeout_s: float = 600) -> dict[str, Any]:
        """Wait until so many emails have come.

        Raises:
            TimeoutError: They have not.
        """
        async with asyncio.timeout(timeout_s):
            while (stats := await self.stats())["emails"] < emails:
                await asyncio.sleep(0.05)
        return stats


@asynccontextmanager
async def provider(*, latency_ms: float = 0, limit: int = 0) -> AsyncIterator[StandIn]:
    """The stand-in, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.provider", "--latency-ms", str(latency_ms), "--limit", str(limit)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())  # noqa: ASYNC220, S603
    try:
        assert process.stdout is not None
        yield StandIn(process, int(await asyncio.to_thread(process.stdout.readline)))
    finally:
        process.kill()
        process.communicate()


@asynccontextmanager
async def service(kind: str, stage: Stage, stand_in: StandIn, **settings: object) -> AsyncIterator[tuple[Process, str]]:
    """An ingress or a consumer, ready; it, and the address of its gRPC port."""
    grpc_port, http_port = free_port(), free_port()
    upper = kind.upper()
    environment = {
        **_environment(),
        "SRED_EMAIL_POSTGRES_DSN": stage.postgres.dsn,
        "SRED_EMAIL_REDIS_URL": stage.valkey.url,
        "SRED_EMAIL_AUTH": "off",
        "SRED_EMAIL_DEFAULT_FROM": "Shop <shop@example.com>",
        "SRED_EMAIL_RESEND_BASE_URL": stand_in.url,
        "RESEND_API_KEY": "re_bench",
        "SRED_EMAIL_RESEND_REQUESTS_PER_SECOND": "0",
        f"SRED_EMAIL_{upper}_GRPC_LISTEN": f"127.0.0.1:{grpc_port}",
        f"SRED_EMAIL_{upper}_HTTP_LISTEN": f"127.0.0.1:{http_port}",
        **{f"SRED_EMAIL_{name.upper()}": str(value) for name, value in settings.items()},
    }
    name = f"{kind}-{grpc_port}"
    command = [Path(sys.executable).parent / f"sred-email-{kind}"]
    process = Process(name, command, env=environment, log=stage.folder / f"{name}.log")
    process.start()
    try:
        await _ready(process, f"http://127.0.0.1:{http_port}/readyz")
        yield process, f"127.0.0.1:{grpc_port}"
    finally:
        process.kill()


@asynccontextmanager
async def bare(module: str, stage: Stage, *arguments: object) -> AsyncIterator[tuple["subprocess.Popen[str]", str]]:
    """A bare loop, in a process of its own; it, and the first line that it printed."""
    command = [sys.executable, "-m", f"benchmarks.{module}", stage.postgres.dsn, stage.valkey.url, *map(str, arguments)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=_environment())  # noqa: ASYNC220, S603
    try:
        assert process.stdout is not None
        yield process, (await asyncio.to_thread(process.stdout.readline)).strip()
    finally:
        process.kill()
        process.communicate()


async def _ready(process: Process, url: str) -> None:
    async with asyncio.timeout(_READY_S), aiohttp.ClientSession() as session:
        while True:
            assert process.alive, process.log_tail()
            try:
                async with session.get(url) as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.05)


def peak_mb(pid: int) -> float:
    """The most memory that a process had so far."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    return 0.0


def cpu_s(pid: int) -> float:
    """CPU time of a process and its children so far."""
    process = psutil.Process(pid)
    times = [p.cpu_times() for p in (process, *process.children(recursive=True))]
    return sum(t.user + t.system for t in times)


def _environment() -> dict[str, str]:
    kept = {n: v for n, v in os.environ.items() if not n.startswith(("SRED_EMAIL_", "RESEND_"))}
    return {**kept, "PYTHONPATH": str(TESTS)}
