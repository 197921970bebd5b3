"""A PgBouncer in transaction mode between the services and a PostgreSQL."""

import asyncio
import shutil
import time
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit

import asyncpg
import pytest

from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.process import Process
from sred_email_local.server_user import give_folder, server_user

_PROGRAM = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
_CONFIG = """
[databases]
* = host={host} port={server_port} user=postgres
[pgbouncer]
listen_addr = {host}
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = {sessions}
max_client_conn = 500
ignore_startup_parameters = {ignored}
"""

needs_pgbouncer = pytest.mark.skipif(
    _PROGRAM is None, reason="pgbouncer is not installed (Debian: apt install pgbouncer)"
)


class PgBouncer:
    """Lends few sessions to many clients, as it does by default but for their number.

    Args:
        folder: Of its files.
        dsn: Of the server, whose superuser needs no password.
        sessions: Of the server, for each database.
        ignored: Settings of sessions that it takes without passing them on.
    """

    def __init__(self, folder: Path, dsn: str, *, sessions: int = 4, ignored: str = "") -> None:
        self.folder = folder / "pgbouncer"
        self._dsn = urlsplit(dsn)
        self.port = free_port()
        self._user = server_user()
        self._config = _CONFIG.format(
            host=LOOPBACK, server_port=self._dsn.port, port=self.port, sessions=sessions, ignored=ignored
        )
        self.process = Process(
            "PgBouncer",
            [str(_PROGRAM), "-q", self.folder / "pgbouncer.ini"],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=folder / "pgbouncer.log",
            user=self._user,
        )

    @property
    def dsn(self) -> str:
        """The same database, through it."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}{self._dsn.path}"

    async def __aenter__(self) -> Self:
        self.folder.mkdir()
        (self.folder / "pgbouncer.ini").write_text(self._config)
        if self._user:
            give_folder(self.folder, self._user)
        self.process.start()
        deadline = time.monotonic() + 30
        while True:
            try:
                connection = await asyncpg.connect(self.dsn, statement_cache_size=0, timeout=5)
            except (OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                assert self.process.alive, self.process.log_tail()
                assert time.monotonic() < deadline, self.process.log_tail()
                await asyncio.sleep(0.05)
            else:
                await connection.close()
                return self

    async def __aexit__(self, *_: object) -> None:
        self.process.kill()
