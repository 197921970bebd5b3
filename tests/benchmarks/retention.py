"""How fast emails leave the log, and what SendEmail feels of it.

Run it on a quiet machine: PYTHONPATH=tests .venv/bin/python -m benchmarks.retention [--emails 1000000] [--seconds 20]
PostgreSQL with fsync. Each email that ended has its row and two events. A caller makes a fixed number of calls a
second, first alone, then while emails leave at the pace of the services, then while they leave without any rest.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import sys
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import grpc
from benchmarks.reconciler import ingress

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred_email_consumer.loops import retention as loop
from sred_email_core.email_send_log.migrate import migrate
from sred_email_core.email_send_log.retention import BEGINNING, RetentionLog
from sred_email_core.postgres import open_pool
from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.ports import free_port

if TYPE_CHECKING:  # the stub that knows grpc.aio exists for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub

_CALLS_A_SECOND = 50
_KEPT = timedelta(days=30)
_FILL = """
INSERT INTO email_send_log (id, idempotency_key, fingerprint, kind, priority, status, from_address, recipients, subject,
                            attempts, provider_message_id, delivery, created_at, updated_at, sent_at, ended_at)
SELECT encode(substring(int8send((extract(epoch FROM at) * 1000)::bigint) FROM 3) || decode('7000', 'hex')
              || decode('8000', 'hex') || substring(int8send(n) FROM 3), 'hex')::uuid,
       'key-' || n, sha256(int8send(n)), 'WELCOME', 'NORMAL', 'SUCCESS', 'a@example.com',
       ARRAY['b' || n || '@example.com'], 'Hello', 1, 'provider-' || n, 'DELIVERED', at, at, at, at
FROM (SELECT n, now() - interval '40 d' + n * interval '0.5 s' AS at FROM generate_series(1, $1::int) n) numbered
"""
_EVENTS = """
INSERT INTO email_events (email_id, what, status, at)
SELECT e.id, w.what, w.status, e.created_at
FROM email_send_log e, (VALUES ('ACCEPTED', 'QUEUED'), ('SENT', 'SUCCESS')) w (what, status)
"""


async def fill(dsn: str, emails: int) -> None:
    """Emails that ended more than 30 days ago."""
    connection = await asyncpg.connect(dsn)
    await connection.execute(_FILL, emails)
    await connection.execute(_EVENTS)
    await connection.execute("VACUUM ANALYZE email_send_log, email_events")
    await connection.execute("CHECKPOINT")
    await connection.close()


async def calls(address: str, name: str, seconds: float) -> None:
    """Call SendEmail at a steady rate and print how long it took."""
    took: list[float] = []

    async def call(stub: "EmailDispatchServiceAsyncStub", number: int) -> None:
        request = SendEmailRequest(
            idempotency_key=f"{name}-{number}",
            kind=email_pb2.EMAIL_KIND_WELCOME,
            from_address="a@example.com",
            to=["b@example.com"],
        )
        request.inline.subject, request.inline.html = "Hello", "x" * 2000
        began = time.monotonic()
        await stub.SendEmail(request, timeout=30)
        took.append((time.monotonic() - began) * 1000)

    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as group:
        stub: EmailDispatchServiceAsyncStub = EmailDispatchServiceStub(channel)
        for number in range(round(seconds * _CALLS_A_SECOND)):
            group.create_task(call(stub, number))
            await asyncio.sleep(1 / _CALLS_A_SECOND)
    took.sort()
    shares = ", ".join(f"p{share} {took[len(took) * share // 100]:.1f} ms" for share in (50, 95, 99))
    print(f"SendEmail, {_CALLS_A_SECOND} calls a second, {name}: {shares}, longest {took[-1]:.1f} ms", flush=True)


async def forget(dsn: str, rest: int) -> None:
    """Let emails leave, with rests so many times as long as each page took; of the process that is this."""
    emails, after, began, worked = 0, BEGINNING, time.monotonic(), 0.0
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    async with open_pool(dsn, max_size=1) as pool:
        log = RetentionLog(pool)
        try:
            while True:
                page_began = time.monotonic()
                forgotten = await log.forget_emails(older_than=_KEPT, after=after, size=loop._PAGE)  # noqa: SLF001 - its pace
                took = time.monotonic() - page_began
                worked += took
                emails += forgotten.emails
                if forgotten.page_end is None:
                    break
                after = forgotten.page_end
                await asyncio.sleep(rest * took)
        finally:
            seconds = time.monotonic() - began
            print(f"{emails} emails left in {seconds:.1f} s: {emails / seconds:.0f} a second", end=", ")
            print(f"a page of {loop._PAGE} took {1000 * worked * loop._PAGE / max(1, emails):.0f} ms", flush=True)  # noqa: SLF001


async def beside(dsn: str, rest: int, seconds: float, address: str, name: str) -> None:
    """Call while another process lets emails leave."""
    arguments = ["-m", "benchmarks.retention", "--forget", dsn, "--rest", str(rest)]
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments)
    await calls(address, name, seconds)
    if process.returncode is None:
        process.terminate()
    await process.wait()


async def main(emails: int, seconds: float) -> None:
    """Measure and print."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        os.chmod(name, 0o755)  # noqa: S103, PTH101 - PostgreSQL may run as another user
        postgres, valkey = PostgresServer(folder / "postgres"), ValkeyServer(folder / "valkey")
        address = f"127.0.0.1:{free_port()}"
        async with postgres, valkey:
            await migrate(postgres.dsn)
            await fill(postgres.dsn, emails)
            async with ingress(folder, postgres.dsn, valkey.url, SRED_EMAIL_INGRESS_GRPC_LISTEN=address):
                async with grpc.aio.insecure_channel(address) as channel:
                    await channel.channel_ready()
                await calls(address, "alone", seconds)
                await beside(postgres.dsn, loop._REST, seconds, address, "while emails leave")  # noqa: SLF001 - its pace
                await calls(address, "alone again", seconds)
                await beside(postgres.dsn, 0, seconds, address, "while emails leave without rest")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--emails", type=int, default=1_000_000)
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--forget", metavar="DSN")
    parser.add_argument("--rest", type=int, default=0)
    arguments = parser.parse_args()
    if arguments.forget:
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(forget(arguments.forget, arguments.rest))
    else:
        asyncio.run(main(arguments.emails, arguments.seconds))
