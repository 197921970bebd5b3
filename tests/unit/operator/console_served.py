"""The console in this process, asked as bytes on the wire."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from aiohttp.test_utils import TestServer

from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_operator.connection import aio_channel_to
from sred_email_operator.console.app import build_app
from sred_email_operator.console.services import Peer, changes_of, reads_of
from sred_email_operator.console.settings import ConsoleSettings

FORM = "application/x-www-form-urlencoded"


@asynccontextmanager
async def serving(
    settings: ConsoleSettings, ingress: str = "127.0.0.1:1", consumer: str = "127.0.0.1:1"
) -> AsyncIterator[TestServer]:
    """A console over an ingress and a consumer; without them, over nobody."""
    async with aio_channel_to(ingress) as to_ingress, aio_channel_to(consumer) as to_consumer:
        services = (
            EmailDispatchServiceStub(to_ingress),
            EmailOperationsServiceStub(to_consumer),
            Peer("ingress", ingress),
            Peer("consumer", consumer),
        )
        server = TestServer(build_app(settings, reads_of(*services), changes_of(*services)))
        async with server:
            yield server


async def said(server: TestServer, head: str, body: bytes = b"") -> tuple[int, str]:
    """Status and all of the answer to a request as it stands on the wire."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    lines = [*head.split("\n"), f"Content-Length: {len(body)}", "Connection: close", "", ""]
    writer.write("\r\n".join(lines).encode() + body)
    answer = (await asyncio.wait_for(reader.read(), 10)).decode()
    writer.close()
    await writer.wait_closed()
    return int(answer.split()[1]), answer
