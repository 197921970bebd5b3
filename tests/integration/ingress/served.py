"""An ingress with its gRPC service, in this process."""

import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import grpc
from integration.ingress.ingress_world import IngressWorld
from redis.asyncio import Redis

from sred.email.v1 import dispatch_service_pb2_grpc
from sred_email_core.call_guard import CallGuard
from sred_email_core.email_send_log.events import EventLog, EventPage, Position
from sred_email_core.grpc_server import SERVER_OPTIONS
from sred_email_core.guarded_server import GuardedServer
from sred_email_core.lifecycle import StopEvent
from sred_email_ingress.api import EmailDispatchServicer
from sred_email_ingress.watching import EmailWatch
from support.world import until

if TYPE_CHECKING:  # the stubs that know grpc.aio exist for type checkers only
    from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceAsyncStub


class CountedEventLog(EventLog):
    """The events, and how often they were read."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        super().__init__(pool)
        self.pages = 0
        self.looks = 0

    async def page(self, after: Position, *, size: int, email_ids: Sequence[uuid.UUID] | None = None) -> EventPage:
        self.pages += 1
        return await super().page(after, size=size, email_ids=email_ids)

    async def settled(self, since: int) -> tuple[int, bool]:
        answer = await super().settled(since)
        self.looks += 1
        return answer

    async def until_looked(self) -> None:
        """Wait until a look that begins from now on is over."""
        before = self.looks

        async def looked() -> bool:
            return self.looks > before + 1

        await until(looked, "there was a look for events")


@dataclass(frozen=True)
class Served:
    """An ingress, how it is called, and what stops it."""

    ingress: IngressWorld
    events: CountedEventLog
    stub: "EmailDispatchServiceAsyncStub"
    guard: CallGuard
    stop: StopEvent


@asynccontextmanager
async def serving(pool: "asyncpg.Pool[Any]", redis: Redis) -> AsyncIterator[Served]:
    """Serve while the context is open."""
    ingress, stop, event_log = IngressWorld(pool, redis), StopEvent(), CountedEventLog(pool)
    parts = replace(ingress.parts, watch=EmailWatch(event_log, interval=timedelta(milliseconds=50)))
    guard = CallGuard(stop, most_calls=2000)
    server = grpc.aio.server(options=SERVER_OPTIONS)
    dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(
        EmailDispatchServicer(parts), cast("grpc.aio.Server", GuardedServer(server, guard))
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
            stub = dispatch_service_pb2_grpc.EmailDispatchServiceStub(channel)
            yield Served(ingress, event_log, stub, guard, stop)
    finally:
        await server.stop(None)
        await parts.drain()
