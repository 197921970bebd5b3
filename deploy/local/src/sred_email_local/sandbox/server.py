"""The sandbox on a port: for tests in their own event loop, and for `python -m sred_email_local.sandbox`."""

import asyncio
from typing import Final, Self

from aiohttp import web

from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.sandbox.app import build_app
from sred_email_local.sandbox.provider import Options, Provider

_FINISH_S = 0.5


class SandboxServer:
    """A running sandbox.

    Args:
        port: Where it listens; a free one if None.
        options: How it behaves.
        host: The interface it listens on.
    """

    def __init__(self, port: int | None = None, *, options: Options | None = None, host: str = LOOPBACK) -> None:
        self.port = port or free_port()
        self.host = host
        self.provider = Provider(options)
        app = build_app(self.provider)
        app.router.add_post("/_sandbox/listen", self._go_deaf)
        self._runner: Final = web.AppRunner(
            app, access_log=None, handler_cancellation=True, shutdown_timeout=_FINISH_S, keepalive_timeout=75.0
        )
        self._site: web.TCPSite | None = None
        self._wake: asyncio.Task[None] | None = None

    @property
    def url(self) -> str:
        """Where the API is, and the inbox."""
        return f"http://{LOOPBACK}:{self.port}"

    async def start(self) -> None:
        """Listen.

        Raises:
            OSError: The port is taken.
        """
        await self._runner.setup()
        await self.listen(on=True)

    async def stop(self) -> None:
        """Answer what is being asked, then listen no more."""
        if self._wake is not None:
            self._wake.cancel()
        await self._runner.cleanup()
        self._site = None

    async def listen(self, *, on: bool) -> None:
        """Refuse connections, the open ones included, or accept them again; what it knows stays."""
        if on and self._site is None:
            self._site = web.TCPSite(self._runner, self.host, self.port, reuse_address=True)
            await self._site.start()
        elif not on and self._site is not None:
            await self._site.stop()
            self._site = None
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport is not None:
                    connection.transport.abort()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    async def _go_deaf(self, request: web.Request) -> web.Response:
        seconds = float((await request.json())["off_for_s"])
        self._wake = asyncio.create_task(self._deaf_for(seconds))
        return web.json_response({"off_for_s": seconds})

    async def _deaf_for(self, seconds: float) -> None:
        await asyncio.sleep(0.05)  # so that the answer gets out
        await self.listen(on=False)
        await asyncio.sleep(seconds)
        await self.listen(on=True)
