"""TLS to a real PostgreSQL: by whom and by what name it is believed."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import trustme

from sred_email_core.errors import LogUnavailableError
from sred_email_core.postgres import open_pool, run
from sred_email_local.engines import PostgresServer
from sred_email_local.server_user import give_folder, server_user

BINARIES = max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=Path("none")).parent

pytestmark = [
    pytest.mark.skipif(
        not (BINARIES / "postgres").exists(),
        reason="the embedded PostgreSQL has no TLS, and none is installed (Debian: apt install postgresql)",
    ),
    pytest.mark.asyncio(loop_scope="module"),
]


@dataclass(frozen=True)
class Believed:
    """A server whose certificate is that of 127.0.0.1, and authorities."""

    server: PostgresServer
    authority: Path
    another: Path

    def dsn(self, query: str, host: str = "127.0.0.1") -> str:
        return self.server.dsn.replace("127.0.0.1", host) + "?" + query


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def believed(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Believed]:
    folder = tmp_path_factory.mktemp("tls")
    authority, another = trustme.CA(), trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    files = folder / "server"
    files.mkdir()
    issued.cert_chain_pems[0].write_to_path(files / "server.pem")
    issued.private_key_pem.write_to_path(files / "server.key")
    (files / "server.key").chmod(0o600)
    if user := server_user():
        give_folder(files, user)
    for name, each in (("authority", authority), ("another", another)):
        each.cert_pem.write_to_path(folder / f"{name}.pem")
    tls = {"ssl": "on", "ssl_cert_file": str(files / "server.pem"), "ssl_key_file": str(files / "server.key")}
    server = PostgresServer(folder / "postgres", binaries=BINARIES, settings={"fsync": "off", **tls})
    async with server:
        yield Believed(server, folder / "authority.pem", folder / "another.pem")


async def encrypted(dsn: str) -> bool:
    async with open_pool(dsn, max_size=1) as pool:
        shown = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        return bool(await run(lambda: pool.fetchval(shown)))


async def test_a_server_is_believed_by_its_authority_and_its_name(believed: Believed) -> None:
    query = f"sslmode=verify-full&sslrootcert={believed.authority}"
    assert await encrypted(believed.dsn(query))
    with pytest.raises(LogUnavailableError, match="certificate"):
        await encrypted(believed.dsn(query, host="localhost"))
    with pytest.raises(LogUnavailableError, match="certificate"):
        await encrypted(believed.dsn(f"sslmode=verify-full&sslrootcert={believed.another}"))


async def test_without_a_mode_tls_is_used_where_it_is_offered(believed: Believed) -> None:
    assert await encrypted(believed.server.dsn)
    assert not await encrypted(believed.dsn("sslmode=disable"))
