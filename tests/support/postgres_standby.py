"""A PostgreSQL and its synchronous standby."""

from pathlib import Path
from typing import Self

import asyncpg

from sred_email_local.embedded import postgres_binaries
from sred_email_local.engines import PostgresServer
from sred_email_local.ports import LOOPBACK
from sred_email_local.process import Process
from sred_email_local.server_user import give_folder, server_user
from support.world import until

_COPY_S = 90.0


class PrimaryAndStandby:
    """Commits wait for the standby, so that what it does not have was never answered."""

    def __init__(self, folder: Path) -> None:
        settings = {"fsync": "off"}
        self.primary = PostgresServer(folder / "primary", settings=settings)
        self.standby = PostgresServer(folder / "standby", settings=settings)

    @property
    def dsn(self) -> str:
        """Whichever of both takes writes."""
        hosts = ",".join(f"{LOOPBACK}:{server.port}" for server in (self.standby, self.primary))
        return f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"

    async def __aenter__(self) -> Self:
        await self.primary.start()
        await self._copy()
        await self.standby.start()
        await _execute(self.primary, "ALTER SYSTEM SET synchronous_standby_names = '*'", "SELECT pg_reload_conf()")
        await until(self._is_synchronous, "commits wait for the standby")
        return self

    async def __aexit__(self, *_: object) -> None:
        self.primary.kill()
        self.standby.kill()

    async def fail_over(self) -> None:
        """The primary is gone at once, the standby takes its place."""
        self.primary.kill()
        await _execute(self.standby, "SELECT pg_promote()")

    async def _copy(self) -> None:
        self.standby.folder.mkdir(parents=True)
        user = server_user()
        if user:
            give_folder(self.standby.folder, user)
        source = ["-h", LOOPBACK, "-p", str(self.primary.port), "-U", "postgres"]
        copy = Process(
            "pg_basebackup",
            [
                postgres_binaries() / "pg_basebackup",
                *source,
                "-D",
                self.standby.data,
                "-R",
                "-c",
                "fast",
                "-X",
                "stream",
            ],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=self.standby.folder.parent / "pg_basebackup.log",
            user=user,
        )
        copy.start()
        assert await copy.wait(_COPY_S) == 0, copy.log_tail()

    async def _is_synchronous(self) -> bool:
        connection = await asyncpg.connect(self.primary.dsn)
        try:
            return bool(await connection.fetchval("SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"))
        finally:
            await connection.close()


async def _execute(server: PostgresServer, *statements: str) -> None:
    connection = await asyncpg.connect(server.dsn)
    for statement in statements:
        await connection.execute(statement)
    await connection.close()
