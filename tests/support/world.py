"""The system from outside: services as real processes, called by gRPC, delivering to the sandbox."""

import asyncio
import os
import re
import sys
import time
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

import aiohttp
import asyncpg
import grpc
from redis.asyncio import Redis

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import GetEmailRequest, SendEmailRequest, SendEmailResponse
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_core.queue.keys import QueueKeys
from sred_email_local.ports import free_port
from sred_email_local.process import Process
from sred_email_local.sandbox.request_log import RequestRecord
from sred_email_local.sandbox.rules import Rule
from sred_email_local.sandbox.server import SandboxServer
from support.least_users import url_of

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub
    from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceAsyncStub

T = TypeVar("T")
API_KEY = "re_test_secret_key"
_ERROR = re.compile(r'"level": ?"(error|critical)"')
ENDED = frozenset({"SUCCESS", "FAILED", "CANCELLED", "EXPIRED", "SUPPRESSED"})

FAST = {
    "SRED_EMAIL_AUTH": "off",
    "SRED_EMAIL_PROVIDER_TIMEOUT": "2",
    "SRED_EMAIL_CLAIM_IDLE": "4",
    "SRED_EMAIL_RECONCILE_INTERVAL": "0.5",
    "SRED_EMAIL_RECONCILE_AFTER": "2",
    "SRED_EMAIL_RETRY_BASE_DELAY": "0.2",
    "SRED_EMAIL_RETRY_MAX_DELAY": "1",
    "SRED_EMAIL_DRAIN_TIMEOUT": "10",
    "SRED_EMAIL_PROBE_INTERVAL": "1",
    "SRED_EMAIL_RESEND_REQUESTS_PER_SECOND": "0",
}


async def until(condition: Callable[[], Awaitable[T]], what: str, *, timeout_s: float = 30) -> T:
    """Ask a condition until it holds; its value.

    Raises:
        AssertionError: It did not hold in time.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        value = await condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"not within {timeout_s:g} s: {what}"
        await asyncio.sleep(0.02)


class Service:
    """One service process, with its addresses."""

    def __init__(self, kind: str, process: Process, grpc_port: int, http_port: int) -> None:
        self.kind = kind
        self.process = process
        self.address = f"127.0.0.1:{grpc_port}"
        self.http = f"http://127.0.0.1:{http_port}"

    async def ready(self, status: int = 200, *, timeout_s: float = 30) -> dict[str, Any]:
        """Wait until /readyz answers with a status; its body."""

        async def asked() -> dict[str, Any]:
            assert self.process.alive, self.process.log_tail()
            try:
                async with aiohttp.ClientSession() as session, session.get(f"{self.http}/readyz") as response:
                    body: dict[str, Any] = await response.json()
                    return body if response.status == status else {}
            except aiohttp.ClientError:
                return {}

        return await until(asked, f"{self.process.name} /readyz answers {status}", timeout_s=timeout_s)

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of an HTTP request."""
        async with aiohttp.ClientSession() as session, session.get(self.http + path) as response:
            return response.status, await response.text()


class World:
    """Engines, provider and processes of one test."""

    def __init__(self, folder: Path, dsn: str, redis_url: str, redis: Redis, sandbox: SandboxServer) -> None:
        self.folder = folder
        self.redis = redis
        self.sandbox = sandbox
        self.keys = QueueKeys()
        self.least_users = False
        """Whether this Redis knows the users that docs/redis.md gives the services: then they are these."""
        self.services: list[Service] = []
        self.env = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("SRED_EMAIL_", "RESEND_"))},
            **FAST,
            "SRED_EMAIL_POSTGRES_DSN": dsn,
            "SRED_EMAIL_REDIS_URL": redis_url,
            "SRED_EMAIL_RESEND_BASE_URL": sandbox.url,
            "SRED_EMAIL_DEFAULT_FROM": "Test <test@example.com>",
            "SRED_EMAIL_LOG_LEVEL": "DEBUG",
            "SRED_EMAIL_LOG_FORMAT": "json",
            "RESEND_API_KEY": API_KEY,
        }
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._pool: asyncpg.Pool | None = None

    async def __aenter__(self) -> Self:
        self._pool = await asyncpg.create_pool(self.env["SRED_EMAIL_POSTGRES_DSN"], min_size=0, max_size=2)
        return self

    async def __aexit__(self, *_: object) -> None:
        for channel in self._channels.values():
            await channel.close()
        for service in self.services:
            service.process.kill()
        self.pool.terminate()

    @property
    def pool(self) -> asyncpg.Pool:
        """Connections to the log, for looking."""
        assert self._pool is not None
        return self._pool

    async def start(self, kind: str, **env: str) -> Service:
        """Start an ingress or a consumer and wait until it is ready."""
        service = self.launch(kind, **env)
        await service.ready()
        return service

    def launch(self, kind: str, **env: str) -> Service:
        """Start an ingress or a consumer."""
        grpc_port, http_port = free_port(), free_port()
        name = f"{kind}{sum(s.kind == kind for s in self.services)}"
        listen = {
            f"SRED_EMAIL_{kind.upper()}_GRPC_LISTEN": f"127.0.0.1:{grpc_port}",
            f"SRED_EMAIL_{kind.upper()}_HTTP_LISTEN": f"127.0.0.1:{http_port}",
        }
        whole = {**self.env, **listen, **env}
        if self.least_users:
            whole["SRED_EMAIL_REDIS_URL"] = url_of(whole["SRED_EMAIL_REDIS_URL"], f"sred-email-{kind}")
        process = Process(
            name,
            [Path(sys.executable).parent / f"sred-email-{kind}"],
            env=whole,
            log=self.folder / f"{name}.log",
        )
        process.start()
        service = Service(kind, process, grpc_port, http_port)
        self.services.append(service)
        return service

    async def start_pair(self, *, timeout_s: float = 30) -> tuple[Service, Service]:
        """One ingress and one consumer, ready."""
        ingress, consumer = self.launch("ingress"), self.launch("consumer")
        await asyncio.gather(ingress.ready(timeout_s=timeout_s), consumer.ready(timeout_s=timeout_s))
        return ingress, consumer

    def _channel(self, kind: str, service: Service | None) -> grpc.aio.Channel:
        chosen = service or next(s for s in self.services if s.kind == kind and s.process.alive)
        if chosen.address not in self._channels:
            options = [("grpc.max_send_message_length", -1), ("grpc.max_reconnect_backoff_ms", 200)]
            self._channels[chosen.address] = grpc.aio.insecure_channel(chosen.address, options=options)
        return self._channels[chosen.address]

    def dispatch(self, service: Service | None = None) -> "EmailDispatchServiceAsyncStub":
        """The ingress' service."""
        return EmailDispatchServiceStub(self._channel("ingress", service))

    def operations(self, service: Service | None = None) -> "EmailOperationsServiceAsyncStub":
        """The consumer's service."""
        return EmailOperationsServiceStub(self._channel("consumer", service))

    async def send(self, subject: str, **fields: Any) -> SendEmailResponse:
        """Send one email."""
        return await self.dispatch().SendEmail(email_request(subject, **fields), timeout=10)

    async def status(self, email_id: str) -> str:
        """Of the row in the log."""
        return str(await self.pool.fetchval("SELECT status FROM email_send_log WHERE id = $1", uuid.UUID(email_id)))

    async def wait_for(self, email_id: str, *statuses: str, timeout_s: float = 30) -> str:
        """Wait until an email has one of these statuses (none given: has ended); the status."""
        wanted = frozenset(statuses) or ENDED

        async def reached() -> str:
            status = await self.status(email_id)
            return status if status in wanted else ""

        return await until(reached, f"{email_id} becomes {' or '.join(sorted(wanted))}", timeout_s=timeout_s)

    async def get_email(self, email_id: str) -> email_pb2.Email:
        """As callers see it."""
        return (await self.dispatch().GetEmail(GetEmailRequest(email_id=email_id), timeout=5)).email

    def rules(self, *rules: Rule) -> None:
        """Make the provider fail."""
        self.sandbox.provider.rules.replace(rules)

    @property
    def requests(self) -> list[RequestRecord]:
        """What the provider was asked, oldest first."""
        return list(self.sandbox.provider.requests)

    def deliveries(self, subject: str) -> int:
        """How many emails with this subject the provider would have sent."""
        return len(self.sandbox.provider.mailbox.by_subject().get(subject, []))

    def logged_errors(self) -> list[str]:
        """Lines in which a service tells of a bug of its own."""
        lines = [line for service in self.services for line in service.process.log.read_text().splitlines()]
        return [line for line in lines if _ERROR.search(line)]

    async def assert_redis_is_clean(self) -> None:
        """Nothing of any email is left in Redis, but dead letters."""

        async def clean() -> bool:
            left = [await self.redis.xlen(stream) for stream in self.keys.streams]
            left += [await self.redis.zcard(self.keys.retry), await self.redis.hlen(self.keys.places)]
            left += [await self.redis.hlen(self.keys.parked)]
            return not any(left)

        await until(clean, "streams, retry set and places are empty")


def email_request(subject: str, **fields: Any) -> SendEmailRequest:
    """A valid request; its key is made of the subject unless one is given."""
    html = fields.pop("html", "<p>Hello</p>")
    fields.setdefault("idempotency_key", f"key-{subject}")
    fields.setdefault("kind", email_pb2.EMAIL_KIND_SYSTEM_NOTIFICATION)
    fields.setdefault("to", ["ada@example.com"])
    request = SendEmailRequest(**fields)
    request.inline.subject = subject
    request.inline.html = html
    return request
