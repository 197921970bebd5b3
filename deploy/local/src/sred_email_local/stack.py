"""The whole system as child processes: engines, sandbox, ingress and consumer, started in order, stopped in reverse."""

import asyncio
import fcntl
import secrets
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

from sred_email_local.engines import PostgresServer, ValkeyServer
from sred_email_local.local_token import local_token
from sred_email_local.ports import LOOPBACK, check_free
from sred_email_local.process import Process
from sred_email_local.service_environment import console_environment, service_environment
from sred_email_local.settings import LocalSettings

INGRESS, CONSUMER, CONSOLE = "ingress", "consumer", "console"
_POSTGRES, _VALKEY = "postgres", "valkey"
_API_KEY = "resend-api-key"
_SANDBOX_API_KEY = "re_sandbox"
"""Any other will do, too, until the sandbox is told which is right."""
_MIGRATION_S = 60.0
_READY_S = 30.0
_STOP_S = 5.0
_POLL_S = 0.05
_ANSWER_S = 2.0


class FolderInUseError(Exception):
    """Another run uses the data folder; nothing was started."""


@dataclass(frozen=True, slots=True)
class Stack:
    """What runs.

    Attributes:
        processes: Every child, in the order of starting.
        postgres_dsn: Where PostgreSQL is.
        redis_url: Where Valkey is.
        token: What callers show; empty: nothing.
        api_key_file: Holds the key that the sandbox is shown.
        console_token: What the console asks for; None: there is no console.
    """

    settings: LocalSettings
    processes: tuple[Process, ...]
    postgres_dsn: str
    redis_url: str
    token: str
    api_key_file: Path
    console_token: str | None = None

    def check_alive(self) -> None:
        """Make sure that every child runs.

        Raises:
            ProcessError: Names one that has ended, with the end of its log.
        """
        for process in self.processes:
            if not process.alive:
                raise process.failure("is gone")


@asynccontextmanager
async def running_stack(
    settings: LocalSettings, folder: Path, say: Callable[[str], None], *, empty: bool = False, console: bool = False
) -> AsyncIterator[Stack]:
    """Run everything on the data of a folder until the block is left.

    Args:
        settings: Ports and environment.
        folder: Data and logs of this run; made if need be.
        say: Told of each step, in words.
        empty: Whether to start without the data of the run before.
        console: Whether to run the web console, too.

    Raises:
        PortTakenError: Before anything is started.
        FolderInUseError: The same.
        ProcessError: A child did not come up; all others are stopped again.
    """
    check_free(settings.ports.uses(sandbox=settings.uses_sandbox, console=console))
    async with AsyncExitStack() as cleanup:
        cleanup.enter_context(_only_run_in(folder))
        _clean(folder, data=empty)
        say("starting PostgreSQL and Valkey")
        postgres = await cleanup.enter_async_context(PostgresServer(folder / _POSTGRES, settings.ports.postgres))
        valkey = await cleanup.enter_async_context(ValkeyServer(folder / _VALKEY, settings.ports.valkey))
        processes = [postgres.process, valkey.process]
        if settings.uses_sandbox:
            say("starting the sandbox provider")
            processes.append(await _start_sandbox(cleanup, settings, folder))
        token = local_token(folder) if settings.uses_token else None
        api_key_file = folder / _API_KEY
        api_key_file.write_text(_SANDBOX_API_KEY + "\n", encoding="ascii")
        tokens_file = token.tokens_file if token else None
        environment = service_environment(settings, postgres.dsn, valkey.url, tokens_file, api_key_file)
        say("bringing the database to the newest schema")
        await _migrate(folder, environment)
        say("starting ingress and consumer")
        processes += await _start_services(cleanup, settings, folder, environment)
        shown, console_token = token.token if token else "", None
        if console:
            say("starting the console")
            console_token = shown or secrets.token_urlsafe(16)
            of_console = console_environment(settings, shown, console_token)
            processes.append(await _start_console(cleanup, settings, folder, of_console))
        try:
            yield Stack(settings, tuple(processes), postgres.dsn, valkey.url, shown, api_key_file, console_token)
        finally:
            say("stopping")


@contextmanager
def _only_run_in(folder: Path) -> Iterator[None]:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            message = f"another run uses {folder}: stop it, or set SRED_EMAIL_LOCAL_FOLDER to another folder"
            raise FolderInUseError(message) from None
        yield


def _clean(folder: Path, *, data: bool) -> None:
    for log in folder.glob("*.log"):
        log.unlink()
    for name in (_POSTGRES, _VALKEY) if data else ():
        if (folder / name).exists():
            shutil.rmtree(folder / name)


async def _start_sandbox(cleanup: AsyncExitStack, settings: LocalSettings, folder: Path) -> Process:
    argv = [sys.executable, "-m", "sred_email_local.sandbox", "--port", str(settings.ports.sandbox)]
    sandbox = Process("sandbox", argv, env=settings.environment, log=folder / "sandbox.log")
    await _start(cleanup, sandbox)
    await _until_ready(sandbox, f"http://{LOOPBACK}:{settings.ports.sandbox}/")
    return sandbox


async def _migrate(folder: Path, environment: dict[str, str]) -> None:
    migration = Process("migration", [_program(INGRESS), "migrate"], env=environment, log=folder / "migrate.log")
    migration.start()
    try:
        code = await migration.wait(_MIGRATION_S)
        if code != 0:
            raise migration.failure("failed" if code is not None else f"did not end within {_MIGRATION_S:g} s")
    finally:
        migration.kill()


async def _start_services(
    cleanup: AsyncExitStack, settings: LocalSettings, folder: Path, environment: dict[str, str]
) -> list[Process]:
    ports = {INGRESS: settings.ports.ingress_http, CONSUMER: settings.ports.consumer_http}
    services = [Process(name, [_program(name)], env=environment, log=folder / f"{name}.log") for name in ports]
    for service in services:
        await _start(cleanup, service)
    for service in services:
        await _until_ready(service, f"http://{LOOPBACK}:{ports[service.name]}/readyz")
    return services


async def _start_console(
    cleanup: AsyncExitStack, settings: LocalSettings, folder: Path, environment: dict[str, str]
) -> Process:
    argv = [str(Path(sys.executable).with_name("sred-email")), "console"]
    console = Process(CONSOLE, argv, env=environment, log=folder / "console.log")
    await _start(cleanup, console)
    await _until_ready(console, f"http://{LOOPBACK}:{settings.ports.console}/readyz")
    return console


async def _start(cleanup: AsyncExitStack, process: Process) -> None:
    async def stop() -> None:
        await process.stop(grace_s=_STOP_S)

    process.start()
    cleanup.push_async_callback(stop)


async def _until_ready(process: Process, url: str) -> None:
    deadline = time.monotonic() + _READY_S
    answer = "nothing"
    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_ANSWER_S)) as session:
        while process.alive and time.monotonic() < deadline:
            try:
                async with session.get(url) as response:
                    if response.ok:
                        return
                    answer = f"{response.status} {await response.text()}"
            except (aiohttp.ClientError, TimeoutError) as error:
                answer = str(error) or type(error).__name__
            await asyncio.sleep(_POLL_S)
    raise process.failure(f"was not ready within {_READY_S:g} s ({answer})" if process.alive else "ended at its start")


def _program(service: str) -> str:
    """The service's program, which lies beside this interpreter."""
    return str(Path(sys.executable).with_name(f"sred-email-{service}"))
