"""The bare consumer loop: what no consumer can do without, and nothing else.

python -m benchmarks.bare_consumer DSN REDIS_URL PROVIDER_URL BATCH SLOTS

A few rounds at a time: take by the take script, claim durable sends in one statement, make the bodies, post them,
record every email with an event row in one statement, take them off their streams. The answer is a 200, or it fails.
"""

import asyncio
import sys
from datetime import timedelta
from typing import Any

import aiohttp
import asyncpg
import orjson
import uuid_utils.compat
import uvloop

from sred.email.v1.stream_message_pb2 import EmailStreamMessage
from sred_email_core.email_send_log.sql import query
from sred_email_core.lifecycle import collect_rarely
from sred_email_core.postgres import open_pool
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner
from sred_email_core.queue.scripts import Entry, Finished, QueueScripts, Wish
from sred_email_core.redis_connection import open_redis

_ROUNDS = 4
"""At a time: while one waits for a disk or for the provider, the others work."""


def _item(message: EmailStreamMessage) -> dict[str, object]:
    content = message.content
    tags = [{"name": "email_id", "value": message.email_id}, {"name": "kind", "value": "SYSTEM_NOTIFICATION"}]
    return {
        "from": content.from_address,
        "to": list(content.to),
        "subject": content.subject,
        "html": content.html,
        "tags": tags,
    }


class BareConsumer:
    """The loop."""

    def __init__(
        self, pool: "asyncpg.Pool[Any]", runner: ScriptRunner, session: aiohttp.ClientSession, url: str
    ) -> None:
        self._pool = pool
        self._scripts = QueueScripts(runner, QueueKeys())
        self._session = session
        self._url = url

    async def run(self, batch_size: int, slots: int) -> None:
        """Send for ever, in a few rounds at a time."""
        await asyncio.gather(*(self._rounds(batch_size, max(1, slots // _ROUNDS)) for _ in range(min(_ROUNDS, slots))))

    async def _rounds(self, batch_size: int, slots: int) -> None:
        wish = Wish(slots, 0, timedelta(minutes=1), batch_size)
        while True:
            taken = await self._scripts.take("bare", wish)
            if taken.requests:
                await self._send([_Send(entries) for entries in taken.requests])
            else:
                await asyncio.sleep(0.01)

    async def _send(self, sends: list["_Send"]) -> None:
        ids = [email_id for send in sends for email_id in send.ids]
        await self._pool.fetch(
            query("claim_sends"),
            *([s.id for s in sends], [s.path for s in sends], [1] * len(sends)),
            *([None] * len(sends), [None] * len(sends), [b"h" * 32] * len(sends)),
            *([n for n, s in enumerate(sends, 1) for _ in s.ids], ids, [p for s in sends for p in range(len(s.ids))]),
            *("bare", timedelta(minutes=1), [None] * len(ids)),
        )
        told = [i for answer in await asyncio.gather(*(self._post(send) for send in sends)) for i in answer]
        send_ids = [s.id for s in sends for _ in s.ids]
        await self._pool.fetch(query("record_answers"), ids, told, send_ids, [], [], [], "bare")
        entries = [entry for send in sends for entry in send.entries]
        finished = [Finished(e.lane, e.entry_id, i) for e, i in zip(entries, ids, strict=True)]
        await self._scripts.finish("bare", finished)

    async def _post(self, send: "_Send") -> list[str]:
        headers = {"Authorization": "Bearer re_bench", "Content-Type": "application/json", "Idempotency-Key": send.id}
        async with self._session.post(self._url + send.path, data=send.body, headers=headers) as response:
            answer = orjson.loads(await response.read())
        return [item["id"] for item in answer["data"]] if len(send.ids) > 1 else [answer["id"]]


class _Send:
    """What one request carries."""

    def __init__(self, entries: list[Entry]) -> None:
        messages = [EmailStreamMessage.FromString(entry.fields[b"message"]) for entry in entries]
        items = [_item(message) for message in messages]
        batch = len(entries) > 1
        self.entries = entries
        self.ids = [message.email_id for message in messages]
        self.body = orjson.dumps(items if batch else items[0])
        self.path = "/emails/batch" if batch else "/emails"
        self.id = f"batch-{uuid_utils.compat.uuid7()}" if batch else f"{self.ids[0]}.1"


async def main(dsn: str, redis_url: str, provider_url: str, batch_size: int, slots: int) -> None:
    """Run on connections of its own."""
    async with (
        open_pool(dsn, max_size=10) as pool,
        open_redis(redis_url, timeout=timedelta(seconds=30)) as redis,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=slots)) as session,
    ):
        await redis.ping()
        print("ready", flush=True)
        await BareConsumer(pool, ScriptRunner(redis, QueueKeys()), session, provider_url).run(batch_size, slots)


if __name__ == "__main__":
    collect_rarely()
    uvloop.run(main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
