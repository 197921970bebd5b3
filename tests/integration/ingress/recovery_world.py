"""A reconciler between a real log and a real Redis, and ways to let them disagree."""

import uuid
from collections import Counter
from datetime import timedelta
from typing import Any

import asyncpg
from integration.core.log_builder import LogWorld
from integration.core.queue_builder import HOUR, NOW, Queue
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_core.email_send_log.records import FailureAction
from sred_email_core.email_send_log.recovery import RecoveryLog
from sred_email_core.queue.epoch import Epoch
from sred_email_core.queue.keys import Lane, QueueKeys
from sred_email_core.queue.scripts import Entry
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.reconciler import Reconciler
from sred_email_ingress.recovery.composition import build_reconciler
from sred_email_ingress.recovery.passes import Mended

AFTER = timedelta(seconds=30)
CONTENT = EmailContent(from_address="a@example.com", to=["b@example.com"], subject="Hello", html="<p>x</p>")


class RecoveryWorld:
    """One log, one queue, one reconciler unless more are asked for."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis) -> None:
        self.pool = pool
        self.redis: Any = redis
        self.log = LogWorld(pool)
        self.queue = Queue(redis, QueueKeys())
        self.keys = self.queue.keys
        self.epoch = Epoch(self.queue.runner, self.keys)
        self.registry = CollectorRegistry()
        self.reconciler = self.build(self.registry)

    def build(self, registry: CollectorRegistry | None = None, *, interval: float = 10) -> Reconciler:
        """A reconciler as the ingress has it."""
        return build_reconciler(
            self.pool,
            self.queue.runner,
            self.keys,
            IngressMetrics(registry or CollectorRegistry()),
            interval=timedelta(seconds=interval),
            after=AFTER,
        )

    async def begin(self) -> None:
        """Let the reconciler have seen this Redis, so that it looks at everything with care from now on."""
        assert await self.round() == {}
        assert not (await self.epoch.look()).changed

    async def round(self) -> Counter[Mended]:
        """What one round mended."""
        return await self.reconciler.run_once()

    async def accept(self, count: int = 1, **fields: Any) -> list[str]:
        """Emails in the log that were never published, accepted some time ago; their ids."""
        fields.setdefault("message", CONTENT.SerializeToString())
        ids = await self.log.accept(count, priority="NORMAL", **fields)
        await self.settle(*ids)
        return sorted(ids)

    async def published(self, count: int = 1, **fields: Any) -> list[str]:
        """The same, and published."""
        ids = await self.accept(count, **fields)
        await self.publish(*ids)
        return ids

    async def publish(self, *email_ids: str) -> int:
        """As the ingress does."""
        emails, _ = await RecoveryLog(self.pool).load(email_ids)
        return await self.queue.scripts.publish(emails)

    async def settle(self, *email_ids: str) -> None:
        """Let it be an hour ago that these emails, or all, changed."""
        await self.pool.execute(
            "UPDATE email_send_log SET updated_at = now() - interval '1 hour' WHERE id = ANY ($1) OR $2",
            [uuid.UUID(i) for i in email_ids],
            not email_ids,
        )

    async def end(self, *email_ids: str) -> None:
        """Let emails have been cancelled an hour ago, without anybody telling Redis."""
        for email_id in email_ids:
            await self.log.change(email_id, "status = 'CANCELLED', ended_at = now(), message = NULL")
        await self.settle(*email_ids)

    async def lose_entry(self, email_id: str) -> None:
        """Delete the entry of an email, and leave its place."""
        lane, entry_id = (await self.place(email_id)).split(":")[1:]
        await self.redis.xdel(self.keys.stream(Lane(int(lane))), entry_id)

    async def lose(self, email_id: str) -> None:
        """Delete the entry of an email and its place."""
        await self.lose_entry(email_id)
        await self.redis.hdel(self.keys.places, email_id)

    async def send_of_two(self, delay: timedelta = NOW) -> tuple[str, str]:
        """Two emails in an open send that waits for its repeat, as the consumer leaves it."""
        first, second = await self.published(2)
        entries = await self.take(2)
        claim = await self.log.claimed(first, second)
        await self.log.fail(claim, FailureAction.RETRY, delay=delay)
        await self.queue.park_send(first, *entries, delay=HOUR)
        await self.settle()
        assert await self.round() == {}
        return first, second

    async def take(self, count: int = 1) -> list[Entry]:
        """Entries that a consumer holds."""
        taken = await self.queue.take(count)
        return [entry for request in taken.requests for entry in request]

    async def place(self, email_id: str) -> str:
        """Where an email is said to be; empty: nowhere."""
        return await self.queue.place(email_id) or ""

    async def on_streams(self) -> list[str]:
        """The email of every entry, in order."""
        return [
            fields[b"email_id"].decode()
            for lane in Lane
            for _, fields in await self.redis.xrange(self.keys.stream(lane))
        ]

    async def shown(self) -> list[str]:
        """The letters in the DLQ, in its order; the index must agree with it."""
        entries = await self.redis.xrange(self.keys.dlq)
        index = await self.redis.hgetall(self.keys.letters)
        assert index == {fields[b"dead_letter_id"]: entry for entry, fields in entries}
        return [fields[b"dead_letter_id"].decode() for _, fields in entries]

    async def is_clean(self) -> bool:
        """Whether nothing of any email is in Redis."""
        return not await self.redis.exists(self.keys.places, self.keys.retry, self.keys.parked) and not any(
            await self.queue.lengths()
        )

    def metric(self, name: str, **labels: str) -> float | None:
        """A sample; None: there is none."""
        return self.registry.get_sample_value(f"sred_email_ingress_{name}", labels)
