"""How long calls wait in gRPC before this process so much as sees them."""

import asyncio
import secrets
import tempfile
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import structlog

log = structlog.get_logger(__name__)

_LONG_S = 0.5
"""A thousand callers at once wait less; who waits longer should rather be told to come back."""
_SHORT_S = 0.1
_EVERY_S = 0.1
_PATIENCE_S = 30.0


class CallWait(grpc.GenericRpcHandler):
    """Asks the server itself, over a socket of its own, and times the answer.

    gRPC hands one call after the other to the event loop. What comes faster than that waits in a queue of gRPC's which
    nobody else can look into, and which grows without bound while the loop and all calls in progress seem well.
    """

    def __init__(self) -> None:
        self._method = f"/sred.email.CallWait/{secrets.token_hex()}"  # known to nobody who comes by the port
        self._asked_at_s: float | None = None
        self._was_long = False

    @property
    def is_long(self) -> bool:
        """Whether a call that came now would wait too long: from half a second on, until it is short again."""
        if self._asked_at_s is not None and asyncio.get_running_loop().time() - self._asked_at_s > _LONG_S:
            self._was_long = True
        return self._was_long

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - a handler of any RPC
        """The handler of what is asked; None: it is a call like any other."""
        return _ANSWER if handler_call_details.method == self._method else None

    @asynccontextmanager
    async def watching(self, server: grpc.aio.Server) -> AsyncIterator[None]:
        """Ask while the context is open; a server that can't be given a socket of its own is not asked.

        Args:
            server: That has this object among its generic handlers, and is not started.
        """
        async with AsyncExitStack() as stack:
            try:
                folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="sred-email-"))
                address = f"unix:{Path(folder) / 'calls'}"
                if server.add_insecure_port(address) == 0:
                    raise OSError("the socket can't be listened on")  # noqa: TRY301 - as if it came from below
            except (OSError, RuntimeError) as e:
                log.warning("call_wait_not_measured", reason=str(e), meaning="overload shows in latency first")
                yield
                return
            options = [("grpc.use_local_subchannel_pool", 1)]
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(address, options=options))
            asking = asyncio.create_task(self._ask_on(channel))
            try:
                yield
            finally:
                asking.cancel()
                await asyncio.wait([asking])
                self._asked_at_s, self._was_long = None, False

    async def _ask_on(self, channel: grpc.aio.Channel) -> None:
        ask: Any = channel.unary_unary(self._method)
        loop = asyncio.get_running_loop()
        while True:
            self._asked_at_s = asked_at_s = loop.time()
            try:
                await ask(b"", timeout=_PATIENCE_S, wait_for_ready=True)
            except grpc.aio.AioRpcError as e:
                log.debug("call_wait_unknown", reason=e.code().name)
            took_s = loop.time() - asked_at_s
            self._asked_at_s = None
            if took_s > _LONG_S:
                self._was_long = True
            elif took_s < _SHORT_S:
                self._was_long = False
            await asyncio.sleep(0 if self._was_long else _EVERY_S)


async def _answer(_: bytes, __: Any) -> bytes:  # noqa: ANN401 - gRPC's context
    return b""


_ANSWER: Any = grpc.unary_unary_rpc_method_handler(_answer)
