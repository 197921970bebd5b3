"""An ingress as a process of its own, for tests that only call it: started once for a whole module."""

import asyncio
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import asyncpg

from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.ports import free_port
from sred_email_local.process import Process


@contextmanager
def running_ingress(postgres: PostgresServer, folder: Path) -> Iterator[str]:
    """Start an ingress on a database and a Valkey of its own; its address.

    Nobody consumes: emails stay QUEUED.
    """
    database = f"ingress_{uuid.uuid4().hex}"
    dsn = postgres.dsn.rsplit("/", 1)[0] + "/" + database
    valkey = ValkeyServer(folder)
    grpc_port, http_port = free_port(), free_port()
    env = {name: value for name, value in os.environ.items() if not name.startswith(("SRED_EMAIL_", "RESEND_"))}
    env |= {
        "SRED_EMAIL_AUTH": "off",
        "SRED_EMAIL_POSTGRES_DSN": dsn,
        "SRED_EMAIL_DEFAULT_FROM": "Test <test@example.com>",
        "SRED_EMAIL_INGRESS_GRPC_LISTEN": f"127.0.0.1:{grpc_port}",
        "SRED_EMAIL_INGRESS_HTTP_LISTEN": f"127.0.0.1:{http_port}",
    }

    async def prepare() -> None:
        connection = await asyncpg.connect(postgres.dsn)
        await connection.execute(f"CREATE DATABASE {database}")
        await connection.close()
        await valkey.start()

    asyncio.run(prepare())
    program = Path(sys.executable).parent / "sred-email-ingress"
    env["SRED_EMAIL_REDIS_URL"] = valkey.url
    subprocess.run([program, "migrate"], env=env, check=True, capture_output=True)  # noqa: S603 - our own
    process = Process("ingress", [program], env=env, log=folder / "ingress.log")
    process.start()
    try:
        _wait_until_ready(process, f"http://127.0.0.1:{http_port}/readyz")
        yield f"127.0.0.1:{grpc_port}"
    finally:
        process.kill()
        asyncio.run(valkey.stop())


def _wait_until_ready(process: Process, url: str) -> None:
    deadline = time.monotonic() + 15
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310 - our own
                return
        except (urllib.error.URLError, ConnectionError):
            assert process.alive, process.log_tail()
            assert time.monotonic() < deadline, "the ingress does not become ready"
            time.sleep(0.02)
