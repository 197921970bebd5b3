"""The bare ingress: a grpc.aio server that writes and publishes what it is told, and nothing else.

python -m benchmarks.bare_ingress DSN REDIS_URL

The same INSERT with its event row, shared by calls that arrive together, and the same publish script; no validation,
no fingerprint, no lookup, no limits.
"""

import sys
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import grpc
import uuid_utils.compat
import uvloop

from sred.email.v1 import dispatch_service_pb2 as pb
from sred.email.v1 import dispatch_service_pb2_grpc, email_pb2
from sred.email.v1.stream_message_pb2 import EmailContent, EmailStreamMessage
from sred_email_core.email_send_log.sql import query
from sred_email_core.group_commit import GroupCommit
from sred_email_core.lifecycle import collect_rarely
from sred_email_core.postgres import open_pool
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.redis_connection import open_redis

_CHUNK = 100


class BareIngress(dispatch_service_pb2_grpc.EmailDispatchServiceServicer):
    """The server."""

    def __init__(self, pool: "asyncpg.Pool[Any]", runner: ScriptRunner) -> None:
        self._pool = pool
        self._runner = runner
        self._group: GroupCommit[pb.SendEmailRequest, tuple[str, datetime]] = GroupCommit(
            self._accept, max_items=500, max_groups=3, weigh=lambda _: 1, max_weight=500, further_weight=60
        )

    async def SendEmail(self, request: pb.SendEmailRequest, context: Any) -> pb.SendEmailResponse:  # noqa: ARG002, N802
        """Write one email."""
        return _response(*await self._group.submit(request))

    async def BatchSendEmails(  # noqa: N802
        self,
        request: pb.BatchSendEmailsRequest,
        context: Any,  # noqa: ARG002
    ) -> pb.BatchSendEmailsResponse:
        """Write many emails."""
        written = await self._accept(request.requests)
        return pb.BatchSendEmailsResponse(results=[pb.SendEmailResult(response=_response(*w)) for w in written])

    async def _accept(self, requests: Sequence[pb.SendEmailRequest]) -> list[tuple[str, datetime]]:
        rows = []
        messages = []
        for request in requests:
            inline = request.inline
            content = EmailContent(
                from_address="Shop <shop@example.com>", to=request.to, subject=inline.subject, html=inline.html
            )
            email_id = uuid_utils.compat.uuid7()
            serialized = content.SerializeToString()
            rows.append(
                (
                    *(email_id, request.idempotency_key, b"f" * 32, "WELCOME", "HIGH", "shop@example.com"),
                    *("\n".join(request.to), inline.subject, serialized, None, None, None, None, None),
                )
            )
            message = EmailStreamMessage(email_id=str(email_id), kind=email_pb2.EMAIL_KIND_WELCOME, content=content)
            messages += [1, str(email_id), 0, b"%d 0 0" % len(serialized), message.SerializeToString()]
        columns = [list(column) for column in zip(*rows, strict=True)]
        created = {row["id"]: row["created_at"] for row in await self._pool.fetch(query("accept_emails"), *columns)}
        keys = QueueKeys()
        used = [*keys.streams, keys.retry, keys.places, keys.parked, keys.doorbell]
        for first in range(0, len(messages), 5 * _CHUNK):
            await self._runner.run("publish", used, messages[first : first + 5 * _CHUNK])
        return [(str(row[0]), created[row[0]]) for row in rows]


def _response(email_id: str, accepted_at: datetime) -> pb.SendEmailResponse:
    response = pb.SendEmailResponse(email_id=email_id, status=email_pb2.EMAIL_STATUS_QUEUED)
    response.accepted_at.FromDatetime(accepted_at)
    return response


async def main(dsn: str, redis_url: str) -> None:
    """Serve on a free port, which is printed."""
    async with open_pool(dsn, max_size=10) as pool, open_redis(redis_url, timeout=timedelta(seconds=30)) as redis:
        server = grpc.aio.server(options=[("grpc.max_receive_message_length", 48 * 1024 * 1024)])
        servicer = BareIngress(pool, ScriptRunner(redis, QueueKeys()))
        dispatch_service_pb2_grpc.add_EmailDispatchServiceServicer_to_server(servicer, server)
        port = server.add_insecure_port("127.0.0.1:0")
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await server.wait_for_termination()


if __name__ == "__main__":
    collect_rarely()
    uvloop.run(main(sys.argv[1], sys.argv[2]))
