"""Where interleavings are played: consumers inside the test, on real engines, with a provider that does as told."""

import itertools
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Self, cast

import aiohttp
import asyncpg
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from crash.interleavings.steps import Steps
from sred_email_consumer import composition as consumer_composition
from sred_email_consumer.composition import ConsumerParts
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.operations import Replayed, Selection
from sred_email_consumer.resend import ApiKey, ResendClient
from sred_email_consumer.settings import ConsumerSettings
from sred_email_core.email_send_log.suppressions import SuppressionLog
from sred_email_core.queue.dispatch_scripts import DispatchScripts
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.suppression_copy import SuppressionCopy
from sred_email_ingress import composition as ingress_composition
from sred_email_ingress.composition import IngressParts
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.recovery.composition import build_reconciler
from sred_email_ingress.settings import IngressSettings
from sred_email_local.sandbox.idempotency import IdempotencyKeys
from sred_email_local.sandbox.request_log import RequestRecord
from sred_email_local.sandbox.rules import Rule
from sred_email_local.sandbox.server import SandboxServer
from support.counted import CountedPool, CountedRedis, CountedResend
from support.crash_steps import Engine
from support.time_passes import Clock, PassingTime
from support.world import API_KEY, email_request

LEASE_S = 60
PROVIDER_TIMEOUT_S = 1.0
HORIZON_S = 82800
_MOST_TAKES = 500
_SETTINGS = {
    "postgres_dsn": "postgresql://unused",
    "redis_url": "redis://unused",
    "auth": "off",
    "RESEND_API_KEY": API_KEY,
    "resend_requests_per_second": 0,
    "claim_idle": str(LEASE_S),
    "provider_timeout": str(PROVIDER_TIMEOUT_S),
    "consumer_slots": 4,
    "default_from": "Test <test@example.com>",
}


@dataclass(frozen=True, slots=True)
class Consumer:
    """A consumer without its ports, that works when told."""

    process: Steps
    parts: ConsumerParts

    async def take(self) -> int:
        """Take once and deliver what was taken; how many requests it made work of."""
        taken = await self.begin()
        await self.parts.consumer.idle()
        return taken

    async def begin(self) -> int:
        """Take once; what was taken is under way when this returns."""
        taken = await self.parts.consumer.run_once()
        return 0 if taken is None else len(taken.repeats) + len(taken.requests)

    async def settle(self) -> None:
        """Wait until nothing is under way."""
        await self.parts.consumer.idle()

    async def work(self) -> None:
        """Do all that can be done now."""
        for _ in range(_MOST_TAKES):
            await self.parts.promoter.run_once()
            if not await self.take():
                return
        raise AssertionError("the same work is taken again and again")

    async def take_over(self) -> None:
        """Set free what dead consumers had, and deliver it."""
        await self.parts.reclaimer.run_once()
        await self.work()

    async def replay(self, *, include_outcome_unknown: bool = False, ids: Sequence[str] | None = None) -> Replayed:
        """Replay these dead letters, or all."""
        selection = Selection(ids=None if ids is None else tuple(ids))
        return await self.parts.operations.replay(selection, include_outcome_unknown=include_outcome_unknown, limit=0)


class Stage:
    """Engines, a provider, and time."""

    def __init__(
        self, pool: asyncpg.Pool, redis: Redis, sandbox: SandboxServer, clock: Clock, session: aiohttp.ClientSession
    ) -> None:
        self.pool = pool
        self.redis = redis
        self.sandbox = sandbox
        self.keys = QueueKeys()
        self.postgres_engine = Engine(lambda: ConnectionResetError("PostgreSQL is away"))
        self.redis_engine = Engine(lambda: RedisConnectionError("Redis is away"))
        self._resend = ResendClient(session, sandbox.url, ApiKey(API_KEY, None))
        self._names = itertools.count(1)
        sandbox.provider._keys = IdempotencyKeys(clock.monotonic)  # noqa: SLF001 - its clock has no other door
        self.time_passes = PassingTime(pool, redis, self.keys, clock)
        self.ingress_process = Steps("ingress")
        self.ingress = self.start_ingress()
        self._reconciler = build_reconciler(
            pool,
            ScriptRunner(redis, self.keys),
            self.keys,
            IngressMetrics(CollectorRegistry()),
            interval=timedelta(seconds=10),
            after=timedelta(seconds=30),
        )

    @classmethod
    @asynccontextmanager
    async def open(cls, pool: asyncpg.Pool, redis: Redis, sandbox: SandboxServer, clock: Clock) -> AsyncIterator[Self]:
        """A stage on engines that are there."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(force_close=True),  # a jump in time would race with connections that idle
            timeout=aiohttp.ClientTimeout(total=PROVIDER_TIMEOUT_S),
            headers={"User-Agent": "sred-email-dispatch"},
        ) as session:
            keys = QueueKeys()
            runner = ScriptRunner(redis, keys)  # consumers were at work before
            await DispatchScripts(runner, keys).set_pauses(0, {})
            await SuppressionCopy(SuppressionLog(pool), runner, keys).renew()
            yield cls(pool, redis, sandbox, clock, session)

    def start_ingress(self, **settings: object) -> IngressParts:
        """An ingress without its ports; ``accept`` asks the one that is ``ingress``."""
        counted = self._redis_of(self.ingress_process)
        return ingress_composition.compose(
            IngressSettings.model_validate({**_SETTINGS, **settings}),
            ingress_composition.Connections(
                self._pool_of(self.ingress_process), counted, ScriptRunner(counted, self.keys)
            ),
            IngressMetrics(CollectorRegistry()),
            patience=timedelta(seconds=5),
        )

    def consumer(self, **settings: object) -> Consumer:
        """Start a consumer, under a name that none had before."""
        process = Steps(f"consumer-{next(self._names)}")
        redis = self._redis_of(process)
        connections = consumer_composition.Connections(
            self._pool_of(process),
            redis,
            ScriptRunner(redis, self.keys),
            cast("ResendClient", CountedResend(self._resend, Engine(AssertionError), process)),
        )
        parts = consumer_composition.compose(
            process.name,
            ConsumerSettings.model_validate({**_SETTINGS, **settings}),
            connections,
            ConsumerMetrics(CollectorRegistry()),
        )
        return Consumer(process, parts)

    async def accept(self, *subjects: str, **fields: Any) -> list[str]:
        """Have emails accepted by an ingress; their ids."""
        return [(await self.ingress.dispatch.send(email_request(subject, **fields))).email_id for subject in subjects]

    async def accept_one(self, subject: str, **fields: Any) -> str:
        """The same for one email."""
        (email_id,) = await self.accept(subject, **fields)
        return email_id

    async def cancel(self, email_id: str) -> None:
        """CancelEmail."""
        await self.ingress.cancellation.cancel(email_id)

    async def reconcile(self) -> None:
        """Have an ingress look through everything, as it does after Redis was restarted."""
        await self.redis.delete(self.keys.epoch)
        for _ in range(3):
            await self._reconciler.run_once()

    def rules(self, *rules: Rule) -> None:
        """Say what the provider does with the next requests."""
        self.sandbox.provider.rules.replace(rules)

    @property
    def requests(self) -> list[RequestRecord]:
        """What the provider was asked, oldest first."""
        return list(self.sandbox.provider.requests)

    def requests_about(self, subject: str) -> list[RequestRecord]:
        """Those that carried this email."""
        return [request for request in self.requests if subject in request.subjects]

    def deliveries(self, subject: str) -> int:
        """How many emails with this subject the provider would have sent."""
        return len(self.sandbox.provider.mailbox.by_subject().get(subject, []))

    async def row(self, email_id: str) -> asyncpg.Record:
        """What the log says of an email, and of its open dead letter."""
        row = await self.pool.fetchrow(
            "SELECT e.*, d.id::text AS letter, d.reason, d.error, d.may_have_been_accepted FROM email_send_log e"
            " LEFT JOIN email_dead_letters d ON d.email_id = e.id AND d.resolved_at IS NULL WHERE e.id = $1",
            uuid.UUID(email_id),
        )
        assert row is not None
        return row

    async def status(self, email_id: str) -> str:
        """Of an email, in the log."""
        return str((await self.row(email_id))["status"])

    async def open_send(self, email_id: str) -> str | None:
        """Key of the open send that an email is in."""
        send_id: str | None = await self.pool.fetchval(
            "SELECT s.id FROM email_sends s JOIN email_send_members m ON m.send_id = s.id"
            " WHERE m.email_id = $1 AND s.state = 'OPEN'",
            uuid.UUID(email_id),
        )
        return send_id

    def assert_one_send(self, subject: str, *, requests: int) -> None:
        """So many requests carried this email, all of them the same one."""
        made = self.requests_about(subject)
        assert len(made) == requests, [(r.name or r.outcome, r.status) for r in made]
        assert len({(r.path, r.idempotency_key, r.body_sha256) for r in made}) == 1

    async def assert_sent_once(self, email_id: str, subject: str) -> None:
        """An email was delivered once, ended as SUCCESS, and nothing else of it is left anywhere."""
        row = await self.row(email_id)
        assert (row["status"], self.deliveries(subject)) == ("SUCCESS", 1)
        assert row["ended_at"] is not None
        assert row["message"] is None
        assert row["letter"] is None
        sent = "SELECT count(*) FROM email_events WHERE email_id = $1 AND what = 'SENT'"
        assert await self.pool.fetchval(sent, uuid.UUID(email_id)) == 1
        assert await self.open_send(email_id) is None
        assert await self.redis.hget(self.keys.places, email_id) is None

    async def assert_nothing_left(self) -> None:
        """No send is open, and Redis holds nothing of any email but the dead letters, which are those of the log."""
        assert await self.pool.fetchval("SELECT count(*) FROM email_sends WHERE state = 'OPEN'") == 0
        keys = self.keys
        left = {stream: await self.redis.xlen(stream) for stream in keys.streams}
        left |= {keys.retry: await self.redis.zcard(keys.retry)}
        left |= {name: await self.redis.hlen(name) for name in (keys.places, keys.parked)}
        assert not any(left.values()), left
        await self.assert_letters_are_shown()

    async def assert_letters_are_shown(self) -> None:
        """The DLQ shows the open dead letters of the log, each once, and nothing else."""
        rows = await self.pool.fetch("SELECT id::text FROM email_dead_letters WHERE resolved_at IS NULL")
        entries: Any = await self.redis.xrange(self.keys.dlq)
        shown = [fields[b"dead_letter_id"].decode() for _, fields in entries]
        assert sorted(shown) == sorted(row["id"] for row in rows)

    def _pool_of(self, process: Steps) -> "asyncpg.Pool[Any]":
        return cast("asyncpg.Pool[Any]", CountedPool(self.pool, self.postgres_engine, process))

    def _redis_of(self, process: Steps) -> Redis:
        return CountedRedis(self.redis, self.redis_engine, process)
