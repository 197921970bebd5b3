"""The whole system of a crash test: engines, provider, processes that come and go, and time."""

import importlib.resources
import itertools
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Self

import aiohttp
import asyncpg
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from sred_email_consumer.resend import ApiKey, ResendClient
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import Taken
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_local.sandbox.idempotency import IdempotencyKeys
from sred_email_local.sandbox.rules import Rule
from sred_email_local.sandbox.server import SandboxServer
from support.crash_steps import Engine, InProcess, Point
from support.in_process import Connections, Consumer, Ingress, build_consumer, build_ingress
from support.time_passes import Clock, PassingTime
from support.world import API_KEY, email_request

BYSTANDER = "bystander"
_MOST_ROUNDS = 16


class System:
    """Engines that stay, processes that do not.

    Attributes:
        answered: Email ids by subject, of the calls that were answered.
        stopped: Consumers that were stopped in the midst of something.
    """

    def __init__(self, connections: Connections, sandbox: SandboxServer, clock: Clock) -> None:
        self.connections = connections
        self.clock = clock
        self.pool = connections.pool
        self.redis = connections.redis
        self.keys = connections.keys
        self.provider = sandbox.provider
        self.provider._keys = IdempotencyKeys(clock.monotonic)  # noqa: SLF001 - its clock has no other door
        self.engines = [connections.postgres_engine, connections.redis_engine]
        self.answered: dict[str, str] = {}
        self.stopped: list[Consumer] = []
        self.time_passes = PassingTime(self.pool, self.redis, self.keys, clock)
        self._names = itertools.count(1)
        self._tables: list[str] = []

    @classmethod
    @asynccontextmanager
    async def open(
        cls, pool: asyncpg.Pool, redis: Redis, sandbox: SandboxServer, clock: Clock, *, answer_s: float = 1.0
    ) -> AsyncIterator[Self]:
        """The system on engines that are there.

        Args:
            pool: PostgreSQL.
            redis: Redis.
            sandbox: The provider.
            clock: That the services go by.
            answer_s: How long they wait for the provider.
        """
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),  # a jump in time would race with connections that idle
            timeout=aiohttp.ClientTimeout(total=answer_s),
            headers={"User-Agent": "sred-email-dispatch"},
        ) as session:
            connections = Connections(
                pool,
                redis,
                ResendClient(session, sandbox.url, ApiKey(API_KEY, None)),
                QueueKeys(),
                postgres_engine=Engine(lambda: ConnectionRefusedError("PostgreSQL is away")),
                redis_engine=Engine(lambda: RedisConnectionError("Redis is away")),
                provider_engine=Engine(AssertionError),
            )
            yield cls(connections, sandbox, clock)

    async def begin_anew(self) -> None:
        """Empty everything."""
        if not self._tables:
            self._tables = [
                row["tablename"]
                for row in await self.pool.fetch(
                    "SELECT tablename FROM pg_tables"
                    " WHERE schemaname = 'public' AND tablename <> 'email_schema_migrations'"
                )
            ]
            for file in (importlib.resources.files("sred_email_core.queue") / "lua").iterdir():
                await self.redis.script_load(file.read_text())  # so that each run takes the same steps
        for engine in self.engines:
            engine.heal()
        for consumer in self.stopped:
            await consumer.process.kill()
        self.stopped.clear()
        await self.pool.execute("; ".join(f"DELETE FROM {table}" for table in self._tables))  # noqa: S608 - ours
        await self.redis.flushall()
        runner = ScriptRunner(self.redis, self.keys)
        await runner.ensure_groups()
        await DispatchScripts(runner, self.keys).set_pauses(0, {})  # consumers have been at work before
        await SuppressionCopy(SuppressionLog(self.pool), runner, self.keys).renew()
        self.provider.reset()
        self.answered.clear()

    def ingress(self, point: Point | None = None) -> Ingress:
        """Start an ingress."""
        return build_ingress(self.connections, InProcess(f"ingress-{next(self._names)}", point))

    def consumer(self, point: Point | None = None, *, slots: int = 4) -> Consumer:
        """Start a consumer, under a name that none had before."""
        return build_consumer(self.connections, InProcess(f"consumer-{next(self._names)}", point), slots=slots)

    async def send(self, ingress: Ingress, subject: str, **fields: Any) -> str:
        """Call SendEmail; the email's id."""
        acceptance = await ingress.process.run(ingress.parts.dispatch.send(email_request(subject, **fields)))
        self.answered[subject] = acceptance.email_id
        await ingress.process.settle()
        return acceptance.email_id

    async def cancel(self, ingress: Ingress, subject: str) -> None:
        """Call CancelEmail for an email that was accepted."""
        await ingress.process.run(ingress.parts.cancellation.cancel(self.answered[subject]))
        await ingress.process.settle()

    async def take(self, consumer: Consumer) -> int:
        """Take once what may be sent now; how many sends are under way."""

        async def take() -> Taken | None:
            await consumer.parts.consumer.recover_lost()
            return await consumer.parts.consumer.run_once()

        taken = await consumer.process.run(take())
        return 0 if taken is None else len(taken.repeats) + len(taken.requests)

    async def deliver(self, consumer: Consumer) -> int:
        """Take once and deliver what was taken; how many sends."""
        sends = await self.take(consumer)
        await consumer.process.settle()
        return sends

    async def look_after(self, consumer: Consumer) -> None:
        """What a consumer does besides: set free what dead ones had, and what has come due."""
        await consumer.process.run(consumer.parts.reclaimer.run_once())
        await consumer.process.run(consumer.parts.promoter.run_once())

    async def reconcile(self, ingress: Ingress) -> None:
        """One round of the reconciler."""
        await ingress.process.run(ingress.reconciler.run_once())

    def rules(self, *rules: Rule) -> None:
        """Make the provider fail."""
        self.provider.rules.replace(rules)

    async def pass_time(self, seconds: float, *alive: str) -> None:
        """Let time pass.

        Args:
            seconds: How long.
            alive: Consumers that went on to give signs of life; none: one that has nothing to do.
        """
        await self.time_passes(seconds)
        now_s, now_us = await self.redis.time()
        beat = now_s * 1000 + now_us // 1000
        await self.redis.zadd(self.keys.consumers, dict.fromkeys(alive or (BYSTANDER,), beat))

    async def come_to_rest(
        self, consumers: Sequence[Consumer] = (), ingress: Ingress | None = None, *, unaided: bool = False
    ) -> None:
        """Let processes work, and time pass, until nothing is open any more; give up after some hours.

        Args:
            consumers: Those that work; none: a fresh one.
            ingress: The one that reconciles; None: a fresh one.
            unaided: Nobody reconciles until it has come to rest.
        """
        ingress = ingress or self.ingress()
        consumers = consumers or [self.consumer(slots=1)]
        names = [consumer.process.name for consumer in consumers]
        for number in range(_MOST_ROUNDS):
            if number and not unaided:
                await self.reconcile(ingress)
            for consumer in consumers:
                await self.work(consumer)
            if await self._is_quiet():
                break
            await self.pass_time(61 if number < _MOST_ROUNDS // 2 else 3700, *names)
        else:
            assert not unaided, f"without the reconciler it does not come to rest: {await self.counts_in_redis()}"
        await self.pass_time(timedelta(minutes=5).total_seconds(), *names)
        await self.reconcile(ingress)  # what has ended stays so
        for consumer in consumers:
            await self.work(consumer)

    async def work(self, consumer: Consumer) -> None:
        """Let a consumer do what there is to be done now."""
        for _ in range(100):
            await self.look_after(consumer)
            if not await self.deliver(consumer):
                return
        raise AssertionError("the consumer takes the same work again and again")

    async def _is_quiet(self) -> bool:
        open_in_log = await self.pool.fetchval(
            "SELECT (SELECT count(*) FROM email_send_log WHERE ended_at IS NULL)"
            " + (SELECT count(*) FROM email_sends WHERE state = 'OPEN')"
        )
        return not open_in_log and not any((await self.counts_in_redis()).values())

    async def counts_in_redis(self) -> dict[str, int]:
        """How much of each kind of work is in Redis."""
        keys = self.keys
        pipe = self.redis.pipeline(transaction=False)
        for stream in keys.streams:
            pipe.xlen(stream)
        pipe.zcard(keys.retry)
        pipe.hlen(keys.places)
        pipe.hlen(keys.parked)
        names = [*keys.streams, keys.retry, keys.places, keys.parked]
        return dict(zip(names, await pipe.execute(), strict=True))
