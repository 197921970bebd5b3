"""The connections of a process inside the test: the real ones, each statement, command and request a step."""

import hashlib
import importlib.resources
from collections.abc import Awaitable, Callable, Generator
from functools import cache
from typing import Any, Self

from redis.asyncio import Redis
from redis.asyncio.client import Pipeline

from sred_email_consumer.outcome import Accepted, Failure
from sred_email_consumer.resend import Request, ResendClient
from support.crash_steps import Engine, InProcess


class CountedPool:
    """Connections to PostgreSQL."""

    def __init__(self, pool: Any, engine: Engine, process: InProcess) -> None:
        self._pool = pool
        self._engine = engine
        self._process = process

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(query, lambda: self._pool.fetch(query, *args, timeout=timeout))

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(query, lambda: self._pool.fetchrow(query, *args, timeout=timeout))

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(query, lambda: self._pool.fetchval(query, *args, timeout=timeout))

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(query, lambda: self._pool.execute(query, *args, timeout=timeout))

    def acquire(self, *, timeout: float | None = None) -> "CountedConnection":
        return CountedConnection(lambda: self._pool.acquire(timeout=timeout), self._pool, self._engine, self._process)

    async def _step(self, query: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        return await self._process.step(self._engine, _statement_name(query), effect)


class CountedConnection:
    """One connection for a while. It is gone when its process dies, or when a step on it fails."""

    def __init__(self, acquire: Callable[[], Awaitable[Any]], pool: Any, engine: Engine, process: InProcess) -> None:
        self._acquire = acquire
        self._pool = pool
        self._engine = engine
        self._process = process
        self._connection: Any = None
        self._gone = False

    def __await__(self) -> Generator[Any, None, Self]:
        return self._open().__await__()

    async def __aenter__(self) -> Self:
        return await self._open()

    async def __aexit__(self, *_: object) -> None:
        if not self._process.dead:
            self._process.abandoned.remove(self._abandon)
            await (self._abandon() if self._gone else self._pool.release(self._connection))

    async def fetch(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(_statement_name(query), lambda: self._connection.fetch(query, *args, timeout=timeout))

    async def fetchrow(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(
            _statement_name(query), lambda: self._connection.fetchrow(query, *args, timeout=timeout)
        )

    async def fetchval(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(
            _statement_name(query), lambda: self._connection.fetchval(query, *args, timeout=timeout)
        )

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> Any:
        return await self._step(_statement_name(query), lambda: self._connection.execute(query, *args, timeout=timeout))

    async def reset(self, *, timeout: float | None = None) -> None:
        await self._step("reset", lambda: self._connection.reset(timeout=timeout))

    def terminate(self) -> None:
        self._gone = True  # ended when it is given back, or when its process is

    def is_closed(self) -> bool:
        return self._gone or bool(self._connection.is_closed())

    def transaction(self, **options: Any) -> "CountedTransaction":
        return CountedTransaction(self._connection.transaction(**options), self._step)

    async def _open(self) -> Self:
        async def acquire() -> None:
            self._connection = await self._acquire()
            self._process.abandoned.append(self._abandon)

        try:
            await self._process.step(self._engine, "acquire", acquire)
        except Exception:
            if self._abandon in self._process.abandoned:  # the answer was lost
                self._process.abandoned.remove(self._abandon)
                await self._abandon()
            raise
        return self

    async def _step(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        if self._gone:
            raise self._engine.error()
        try:
            return await self._process.step(self._engine, name, effect)
        except type(self._engine.error()):
            self._gone = True
            raise

    async def _abandon(self) -> None:
        backend = self._connection.get_server_pid()
        self._connection.terminate()
        await self._pool.release(self._connection)
        while await self._pool.fetchval("SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backend):
            pass  # until the server has seen it, rolled back and let go of its locks


class CountedTransaction:
    """A transaction whose beginning and end are steps."""

    def __init__(self, transaction: Any, step: Callable[[str, Callable[[], Awaitable[Any]]], Awaitable[Any]]) -> None:
        self._transaction = transaction
        self._step = step

    async def start(self) -> None:
        await self._step("begin", self._transaction.start)

    async def commit(self) -> None:
        await self._step("commit", self._transaction.commit)

    async def rollback(self) -> None:
        await self._step("rollback", self._transaction.rollback)

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        await (self.commit() if kind is None else self.rollback())


class CountedRedis(Redis):
    """A client on the connections of another; a script is a step by its name."""

    def __init__(self, shared: Redis, engine: Engine, process: InProcess) -> None:
        super().__init__(connection_pool=shared.connection_pool)
        self._engine = engine
        self._process = process

    async def execute_command(self, *args: Any, **options: Any) -> Any:
        execute: Callable[..., Awaitable[Any]] = super().execute_command
        return await self._process.step(self._engine, _command_name(args), lambda: execute(*args, **options))

    def pipeline(self, transaction: bool = True, shard_hint: str | None = None) -> Pipeline:  # noqa: FBT002 - the library's
        return _CountedPipeline(self, transaction, shard_hint)

    async def step(self, name: str, effect: Callable[[], Awaitable[Any]]) -> Any:
        return await self._process.step(self._engine, name, effect)


class _CountedPipeline(Pipeline):
    def __init__(self, client: CountedRedis, transaction: bool, shard_hint: str | None) -> None:
        super().__init__(client.connection_pool, client.response_callbacks, transaction, shard_hint)
        self._client = client

    async def execute(self, raise_on_error: bool = True) -> list[Any]:  # noqa: FBT002 - the library's
        execute = super().execute
        answers: list[Any] = await self._client.step("pipeline", lambda: execute(raise_on_error))
        return answers


class CountedResend:
    """The provider's client."""

    def __init__(self, client: ResendClient, engine: Engine, process: InProcess) -> None:
        self._client = client
        self._engine = engine
        self._process = process

    async def post(self, request: Request, sent: Callable[[], None]) -> Accepted | Failure:
        step = f"POST {request.endpoint}"
        return await self._process.step(self._engine, step, lambda: self._client.post(request, sent))


def _statement_name(query: str) -> str:
    return _statements().get(query) or " ".join(query.split())[:60]


def _command_name(args: tuple[Any, ...]) -> str:
    if args[0] == "EVALSHA":
        return f"{_scripts().get(args[1], 'a script')}.lua"
    return " ".join(str(arg) for arg in args[:2])


@cache
def _statements() -> dict[str, str]:
    folder = importlib.resources.files("sred_email_core.email_send_log") / "queries"
    return {file.read_text(): file.name for file in folder.iterdir() if file.name.endswith(".sql")}


@cache
def _scripts() -> dict[str, str]:
    folder = importlib.resources.files("sred_email_core.queue") / "lua"
    files = [file for file in folder.iterdir() if file.name.endswith(".lua")]
    return {hashlib.sha1(f.read_bytes()).hexdigest(): f.name.removesuffix(".lua") for f in files}  # noqa: S324 - Redis'
