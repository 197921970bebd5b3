"""An ingress without its ports, on real engines."""

import uuid
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import asyncpg
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_ingress.composition import Connections, compose
from sred_email_ingress.dispatch import Acceptance
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.settings import IngressSettings
from support.world import email_request, until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class IngressWorld:
    """One ingress, its engines, and what became of what it was asked."""

    def __init__(self, pool: "asyncpg.Pool[Any]", redis: Redis, **settings: Any) -> None:
        self.pool = pool
        self.redis: Any = redis  # its annotations do not know that this client answers in bytes
        self.keys = QueueKeys()
        self.registry = CollectorRegistry()
        values = {"default_from": "Test <test@example.com>", "auth": "off", **settings}
        self.parts = compose(
            IngressSettings(postgres_dsn="postgresql://not/used", redis_url="redis://not-used", **values),
            Connections(pool, redis, ScriptRunner(redis, self.keys)),
            IngressMetrics(self.registry),
        )

    async def send(self, subject: str, **fields: Any) -> Acceptance:
        """Send one email."""
        return await self.parts.dispatch.send(email_request(subject, **fields))

    async def send_request(self, request: SendEmailRequest) -> Acceptance:
        """Send this request."""
        return await self.parts.dispatch.send(request)

    async def row(self, email_id: str) -> asyncpg.Record:
        """Of an email in the log."""
        row: asyncpg.Record | None = await self.pool.fetchrow(
            "SELECT * FROM email_send_log WHERE id = $1", uuid.UUID(email_id)
        )
        assert row is not None
        return row

    async def subjects(self) -> list[str]:
        """Of all emails in the log."""
        return [row["subject"] for row in await self.pool.fetch("SELECT subject FROM email_send_log ORDER BY subject")]

    async def place(self, email_id: str) -> str | None:
        """Where an email is in Redis."""
        place = await self.redis.hget(self.keys.places, email_id)
        return None if place is None else place.decode()

    async def published(self) -> int:
        """How many entries the streams hold."""
        return sum([await self.redis.xlen(stream) for stream in self.keys.streams])

    def count(self, outcome: str) -> float:
        """How many emails had this outcome."""
        return self.registry.get_sample_value("sred_email_ingress_emails_total", {"outcome": outcome}) or 0.0

    async def until_blocked(self, statements: int = 1) -> None:
        """Wait until so many statements wait for a lock of another transaction."""

        async def blocked() -> bool:
            waiting = await self.pool.fetchval(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
            return bool(waiting >= statements)

        await until(blocked, f"{statements} statements wait for a lock")

    @asynccontextmanager
    async def log_is_locked(self) -> "AsyncIterator[None]":
        """Nothing can be written into the log for as long as the context is open."""
        async with self.pool.acquire() as connection, connection.transaction():
            await connection.execute("LOCK TABLE email_send_log IN EXCLUSIVE MODE")
            yield
