"""The embedded engines, real ones: they answer, keep their data, and leave nothing behind."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import asyncpg
import psutil
import pytest
import redis.asyncio

from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.process import Process, ProcessError

DEBIAN_POSTGRES = Path("/usr/lib/postgresql/15/bin")
ORPHAN_MAKER = """
import asyncio, sys
from pathlib import Path
from sred_email_local.engines import PostgresServer, ValkeyServer

async def main():
    async with PostgresServer(Path(sys.argv[1], "pg")) as postgres, ValkeyServer(Path(sys.argv[1], "vk")) as valkey:
        print(postgres.process.pid, valkey.process.pid, flush=True)
        await asyncio.Event().wait()

asyncio.run(main())
"""


@pytest.fixture
async def postgres(tmp_path: Path) -> AsyncIterator[PostgresServer]:
    async with PostgresServer(tmp_path / "postgres") as server:
        yield server


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[ValkeyServer]:
    async with ValkeyServer(tmp_path / "valkey") as server:
        yield server


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[Process]:
    """A program that ignores SIGTERM."""
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); signal.pause()"
    process = Process("sleeper", [sys.executable, "-c", code], env={}, log=tmp_path / "sleeper.log")
    yield process
    process.kill()


async def query(server: PostgresServer, statement: str) -> object:
    connection = await asyncpg.connect(server.dsn)
    try:
        return await connection.fetchval(statement)
    finally:
        await connection.close()


async def until(condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "not in time"
        await asyncio.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def test_postgres_is_version_18_in_utc_and_reachable_by_tcp_only(postgres: PostgresServer) -> None:
    assert str(await query(postgres, "show server_version")).startswith("18.")
    assert await query(postgres, "show timezone") == "UTC"
    assert await query(postgres, "show listen_addresses") == "127.0.0.1"
    assert await query(postgres, "show unix_socket_directories") == ""
    assert await query(postgres, "show fsync") == "on"


async def test_postgres_keeps_committed_rows_over_kill_and_immediate_stop(postgres: PostgresServer) -> None:
    await query(postgres, "create table kept as select 1 as value")
    first = postgres.process.pid
    postgres.kill()
    assert postgres.process.exit_code == -signal.SIGKILL
    await postgres.start()
    assert postgres.process.pid != first
    await query(postgres, "insert into kept values (2)")
    await postgres.stop("immediate")
    await postgres.start()
    assert await query(postgres, "select sum(value) from kept") == 3


async def test_killing_postgres_leaves_no_worker(postgres: PostgresServer) -> None:
    connection = await asyncpg.connect(postgres.dsn)
    workers = psutil.Process(postgres.process.pid).children(recursive=True)
    assert len(workers) > 1
    postgres.kill()
    assert not any(runs(worker.pid) for worker in workers)
    connection.terminate()


async def test_postgres_takes_settings(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path, settings={"max_connections": "20", "fsync": "off"}) as server:
        assert await query(server, "show max_connections") == "20"
        assert await query(server, "show fsync") == "off"


@pytest.mark.skipif(not DEBIAN_POSTGRES.exists(), reason="no PostgreSQL 15 of Debian here")
async def test_postgres_runs_from_other_binaries(tmp_path: Path) -> None:
    async with PostgresServer(tmp_path, binaries=DEBIAN_POSTGRES) as server:
        assert str(await query(server, "show server_version")).startswith("15.")


async def test_a_start_that_fails_shows_the_log_and_leaves_nothing(tmp_path: Path) -> None:
    server = PostgresServer(tmp_path, settings={"max_connections": "many"})
    with pytest.raises(ProcessError, match=r'PostgreSQL ended at its start .*\n.*"max_connections"'):
        await server.start()
    assert not server.process.alive


async def test_a_server_on_a_taken_port_does_not_pass_for_started(valkey: ValkeyServer, tmp_path: Path) -> None:
    other = ValkeyServer(tmp_path / "other", port=valkey.port)
    with pytest.raises(ProcessError, match=f"Valkey was not started: port {valkey.port} is taken"):
        await other.start()


async def test_an_unfinished_database_is_made_anew(tmp_path: Path) -> None:
    (tmp_path / "data.unfinished").mkdir()
    (tmp_path / "data.unfinished" / "PG_VERSION").write_text("18")
    async with PostgresServer(tmp_path) as server:
        assert await query(server, "select 1") == 1


async def test_valkey_keeps_its_data_over_a_restart(valkey: ValkeyServer) -> None:
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.set("kept", "yes")
    await valkey.stop()
    assert valkey.process.exit_code == 0
    await valkey.start()
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        assert await client.get("kept") == b"yes"


async def test_valkey_without_appendonly_forgets(tmp_path: Path) -> None:
    async with ValkeyServer(tmp_path, appendonly=False, extra_args=["--maxmemory", "64mb"]) as valkey:
        async with redis.asyncio.Redis.from_url(valkey.url) as client:
            assert (await client.config_get("maxmemory"))["maxmemory"] == str(64 * 1024 * 1024)
            await client.set("kept", "yes")
        valkey.kill()
        await valkey.start()
        async with redis.asyncio.Redis.from_url(valkey.url) as client:
            assert await client.get("kept") is None


async def test_a_paused_valkey_hangs_until_it_is_resumed(valkey: ValkeyServer) -> None:
    async with redis.asyncio.Redis.from_url(valkey.url) as client:
        await client.ping()
        valkey.pause()
        answer = asyncio.ensure_future(client.ping())
        done, _ = await asyncio.wait([answer], timeout=0.1)
        assert not done
        valkey.resume()
        assert await answer is True


async def test_a_paused_valkey_can_be_stopped(valkey: ValkeyServer) -> None:
    valkey.pause()
    await valkey.stop()
    assert valkey.process.exit_code == 0


async def test_a_program_that_ignores_sigterm_is_killed_after_its_grace(sleeper: Process) -> None:
    sleeper.start()
    await until(lambda: sleeper.log_tail() == "deaf")
    assert await sleeper.stop(grace_s=0.1) == -signal.SIGKILL


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    process = Process("ghost", ["/no/such/program"], env={}, log=tmp_path / "ghost.log")
    process.start()
    assert await process.wait(10) == 1
    assert "cannot start /no/such/program" in str(process.failure("did not start"))


async def test_children_lead_sessions_of_their_own(valkey: ValkeyServer, postgres: PostgresServer) -> None:
    for process in (valkey.process, postgres.process):
        assert os.getsid(process.pid) == process.pid


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's parent-death signal is Linux's")
async def test_engines_end_when_their_parent_is_killed(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ORPHAN_MAKER, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:  # noqa: ASYNC220, S603 - its end is tested
        assert parent.stdout is not None
        pids = [int(word) for word in parent.stdout.readline().split()]
        workers = [child.pid for pid in pids for child in psutil.Process(pid).children(recursive=True)]
        assert len(workers) > 1
        assert all(map(runs, pids))
        parent.kill()
    await until(lambda: not any(map(runs, pids + workers)))
