"""The gRPC side of a service: limits, health, reflection."""

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import cast

import grpc
import structlog
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc

from sred_email_core.access.access import Access
from sred_email_core.access.tokens import Scope
from sred_email_core.call_guard import CallGuard
from sred_email_core.call_wait import CallWait
from sred_email_core.guarded_server import GuardedServer
from sred_email_core.health_service import HEALTH_SERVICE, HealthService
from sred_email_core.lifecycle import StopEvent
from sred_email_core.metrics import CallMetrics
from sred_email_core.settings import ListenAddress
from sred_email_core.tracing import Tracing

log = structlog.get_logger(__name__)

MAX_MESSAGE_BYTES = 48 * 1024 * 1024
"""The whole email after base64 may have 40 MB; its request is never larger than this."""
_MOST_PENDING = 20_000
"""Calls that gRPC holds for a busy loop. Beyond that it ends them with CANCELLED, which callers do not repeat; its own
default is 1,000, which a burst reaches before the guard, which says RESOURCE_EXHAUSTED, gets to see it."""
SERVER_OPTIONS = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.so_reuseport", 0),
    # Clients may ask every 10 s whether a replica still lives, also while a watch is silent; the default is 5 min.
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    # A client that is gone without a word, its machine or its network with it, holds its streams for 80 s at the most.
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    # Of one connection: what the guard refuses ends at once, so only who opens streams and lets them lie gets here.
    ("grpc.max_concurrent_streams", 5000),
    # From accepting a connection to its first frame, TLS included; the default is two minutes.
    ("grpc.server_handshake_timeout_ms", 10_000),
    # Clients resolve a name anew when a connection ends: so those of a headless service learn of new replicas. Calls
    # and streams in progress go on to their end.
    ("grpc.max_connection_age_ms", 600_000),
    ("grpc.server.max_pending_requests", _MOST_PENDING),
    ("grpc.server.max_pending_requests_hard_limit", 2 * _MOST_PENDING),
)
_OF_REFLECTION: dict[str, Scope | None] = {"ServerReflectionInfo": None}
_REFUSING: list[grpc.aio.Server] = []
"""Servers that have drained: kept until the process ends, since one that nobody refers to cancels its calls."""


@asynccontextmanager
async def running_grpc_server(  # noqa: PLR0913 - a composition root names each
    listen: ListenAddress,
    register: Callable[[grpc.aio.Server], None],
    *,
    service_names: Sequence[str],
    health: HealthService,
    grace: timedelta,
    stop: StopEvent | None = None,
    calls: CallMetrics | None = None,
    tracing: Tracing | None = None,
    most_calls: int = 2000,
    access: Access | None = None,
    scopes: Mapping[str, Scope] | None = None,
    require: Callable[[], None] = lambda: None,
) -> AsyncIterator[None]:
    """Serve while the context is open; at its end calls in progress get ``grace`` to finish.

    From then on calls are refused with UNAVAILABLE, until the process ends: see lifecycle.run_to_the_end.

    Args:
        listen: Where.
        register: Adds the service.
        service_names: Full names, for reflection.
        health: Answers grpc.health.v1, to everybody: probes have no token.
        grace: Of the shutdown.
        most_calls: In progress at once; more are refused with RESOURCE_EXHAUSTED.
        calls: Where they are counted; None: nowhere.
        access: Who may call; None: whoever reaches the port.
        scopes: What each RPC needs, by its name; needed where there are tokens.
        tracing: Makes spans of them; None: nobody does.
        require: Raises an error of the taxonomy while calls can't be served at all.
        stop: New calls are refused, and the grace begins, when it is set; None: at the end of the context.

    Raises:
        OSError: The address can't be listened on.
    """
    wait = CallWait()
    guard = CallGuard(stop, most_calls=most_calls, wait=wait, calls=calls, tracing=tracing, require=require)
    server = grpc.aio.server(handlers=[wait, health], options=SERVER_OPTIONS)
    gate = None if access is None else access.gate
    guarded = GuardedServer(server, guard, gate, {**(scopes or {}), **_OF_REFLECTION}, calls)
    register(cast("grpc.aio.Server", guarded))
    names = (*service_names, HEALTH_SERVICE, reflection.SERVICE_NAME)
    reflection_pb2_grpc.add_ServerReflectionServicer_to_server(  # type: ignore[no-untyped-call]
        reflection.aio.ReflectionServicer(names), cast("grpc.aio.Server", guarded)
    )
    try:
        port = _add_port(server, listen, access)
    except RuntimeError as e:
        raise OSError(f"can't listen on {listen}: {e}") from e
    if port == 0:
        raise OSError(f"can't listen on {listen}")
    async with wait.watching(server):
        await server.start()
        try:
            yield
        except BaseException:
            await server.stop(None)
            raise
    await guard.drain(grace)
    _REFUSING.append(server)


def _add_port(server: grpc.aio.Server, listen: ListenAddress, access: Access | None) -> int:
    if access is not None and access.tls is not None:
        return server.add_secure_port(str(listen), access.tls.credentials())
    if access is not None and access.gate is not None and not listen.is_loopback:
        log.warning("tls_off", meaning="tokens and emails travel unencrypted: let a network carry them that you trust")
    return server.add_insecure_port(str(listen))
