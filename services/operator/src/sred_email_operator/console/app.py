"""The console put together, and run."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2 import GetQueueStatsRequest
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator.connection import aio_channel_to
from sred_email_operator.console.feed import Feed
from sred_email_operator.console.guard import Guard
from sred_email_operator.console.pages.audit import AuditPage
from sred_email_operator.console.pages.delivery import DeliveryActions
from sred_email_operator.console.pages.emails import EmailActions, EmailPages
from sred_email_operator.console.pages.entrance import LoginPages, open_routes
from sred_email_operator.console.pages.letter_changes import LetterChanges
from sred_email_operator.console.pages.letters import LettersPages
from sred_email_operator.console.pages.overview import OverviewPage
from sred_email_operator.console.pages.suppressions import SuppressionChanges, SuppressionsPage
from sred_email_operator.console.rendering import PAGES, Pages
from sred_email_operator.console.services import Changes, Peer, Reads, changes_of, reads_of
from sred_email_operator.console.sessions import TokenDoor, door_of
from sred_email_operator.console.settings import ConsoleSettings, Login

log = structlog.get_logger(__name__)

LARGEST_FORM = 256 * 1024
"""Bytes: a thousand ids fit."""
_KEEP_ALIVE_S = 75.0
_LOOK_S = 4.0
_LINGERING_S = 2.0
_SHUTDOWN_S = 5.0


def build_app(settings: ConsoleSettings, reads: Reads, changes: Changes | None) -> web.Application:
    """Make the application.

    Args:
        settings: How it runs.
        reads: What shows.
        changes: What changes something; None: no route that does exists.
    """
    door = door_of(settings)
    guard = Guard(settings, door)
    app = web.Application(client_max_size=LARGEST_FORM, middlewares=guard.middlewares)
    app[PAGES] = Pages(settings)
    app.on_response_prepare.append(guard.add_headers)
    app.add_routes(open_routes())
    if isinstance(door, TokenDoor):
        app.add_routes(LoginPages(door).routes())
    feed = Feed(lambda: reads.stats(GetQueueStatsRequest(), timeout_s=_LOOK_S))
    app.on_shutdown.append(lambda _: feed.stop())
    for page in (OverviewPage(feed), EmailPages(reads), LettersPages(reads), SuppressionsPage(reads), AuditPage(reads)):
        app.add_routes(page.routes())
    if changes is not None:
        app.add_routes(LetterChanges(reads, changes).routes())
        app.add_routes(SuppressionChanges(changes).routes())
        for actions in (DeliveryActions(changes), EmailActions(reads, changes)):
            app.add_routes(actions.routes())
    return app


@asynccontextmanager
async def running_console(
    settings: ConsoleSettings, ingress_address: str, consumer_address: str
) -> AsyncIterator[None]:
    """Serve the console while the context is open.

    Args:
        settings: How it runs.
        ingress_address: ``host:port`` of its gRPC.
        consumer_address: The same.

    Raises:
        OSError: The address can't be listened on.
    """
    async with aio_channel_to(ingress_address) as to_ingress, aio_channel_to(consumer_address) as to_consumer:
        services = (
            EmailDispatchServiceStub(to_ingress),
            EmailOperationsServiceStub(to_consumer),
            Peer("ingress", ingress_address),
            Peer("consumer", consumer_address),
        )
        app = build_app(settings, reads_of(*services), None if settings.read_only else changes_of(*services))
        runner = web.AppRunner(
            app,
            access_log=None,
            handle_signals=False,
            keepalive_timeout=_KEEP_ALIVE_S,
            lingering_time=_LINGERING_S,
            shutdown_timeout=_SHUTDOWN_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, settings.host, settings.port).start()
            yield
        finally:
            await runner.cleanup()


async def run_console(settings: ConsoleSettings, ingress_address: str, consumer_address: str) -> None:
    """Serve the console until SIGTERM or SIGINT.

    Raises:
        OSError: The address can't be listened on.
    """
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    async with running_console(settings, ingress_address, consumer_address):
        if settings.login is Login.OFF:
            log.warning("login_is_off", meaning="whoever reaches the console sees everything and may do everything")
        elif settings.login is Login.PROXY:
            log.warning(
                "login_by_proxy", meaning=f"whoever reaches the console past the proxy may write {settings.user_header}"
            )
        log.info("console_runs", host=settings.host, port=settings.port, read_only=settings.read_only)
        await stop.wait()
        log.info("console_stops")
