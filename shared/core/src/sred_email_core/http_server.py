"""The HTTP side of a service: /healthz, /readyz and /metrics."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta

from aiohttp import web
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from sred_email_core.health import HealthWatch
from sred_email_core.settings import ListenAddress

IDLE = timedelta(seconds=75)
"""Longer than scrapers and load balancers wait between requests, shorter than who wants to hold connections."""
_LINGERING_S = 2.0
"""For the rest of a body that nobody read: a small one lets the connection live on."""


def build_http_app(
    health: HealthWatch,
    registry: CollectorRegistry,
    state: Callable[[], dict[str, str]] | None = None,
    *,
    max_body_bytes: int = 1024,
) -> web.Application:
    """Make the application.

    Args:
        health: What /readyz tells.
        registry: What /metrics shows.
        state: More for the body of /readyz.
        max_body_bytes: Of a request: what is larger is refused.
    """

    async def healthz(_: web.Request) -> web.Response:
        return web.json_response({"status": "alive"})

    async def readyz(_: web.Request) -> web.Response:
        problems = health.problems
        status = "ready" if not problems else "degraded" if health.ready else "not ready"
        body = {"status": status, "problems": problems, **(state() if state else {})}
        return web.json_response(body, status=200 if health.ready else 503)

    async def metrics(_: web.Request) -> web.Response:
        return web.Response(body=generate_latest(registry), headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application(client_max_size=max_body_bytes)
    app.add_routes([web.get("/healthz", healthz), web.get("/readyz", readyz), web.get("/metrics", metrics)])
    return app


@asynccontextmanager
async def running_http_server(
    app: web.Application, listen: ListenAddress, *, idle: timedelta = IDLE
) -> AsyncIterator[None]:
    """Serve an application while the context is open.

    Args:
        app: What answers.
        listen: Where.
        idle: A connection that brings no whole request for so long is closed; its first one counts, too.

    Raises:
        OSError: The address can't be listened on.
    """
    runner = web.AppRunner(
        app,
        access_log=None,
        handle_signals=False,
        keepalive_timeout=idle.total_seconds(),
        lingering_time=_LINGERING_S,
    )
    await runner.setup()
    try:
        await web.TCPSite(runner, listen.host, listen.port).start()
        yield
    finally:
        await runner.cleanup()
