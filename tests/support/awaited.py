"""The client without asyncio, in tests that are written once for both."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from sred_email_client import SyncEmailClient


class Awaited:
    """A client without asyncio, to be awaited all the same: each call in a thread."""

    def __init__(self, client: SyncEmailClient) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self._client, name)

        async def call(*arguments: Any, **named: Any) -> Any:
            return await asyncio.to_thread(method, *arguments, **named)

        return call

    async def watch(self, *email_ids: str, **named: Any) -> AsyncIterator[Any]:
        events = self._client.watch(*email_ids, **named)
        try:
            while True:
                yield await asyncio.to_thread(next, events)
        finally:
            events.close()
