"""Emails and sends in the log, made the way the services make them, and what became of them."""

import asyncio
import hashlib
import itertools
import uuid
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import asyncpg
import uuid_utils.compat
from asyncpg.pool import PoolConnectionProxy

from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import (
    AcceptedEmail,
    AnsweredSend,
    Claim,
    FailedSend,
    FailureAction,
    MalformedEntry,
    NewEmail,
    NewSend,
    RecordedFailure,
    RefusedEmail,
    Repeat,
    SendShape,
    Standing,
)
from sred_email_core.email_send_log.sql import query

SINGLE = SendShape("/emails", 1)
BATCH = SendShape("/emails/batch", 1)
HOUR = timedelta(hours=1)
LONG = timedelta(hours=23)
NO_TIME = timedelta()
LEASE = timedelta(minutes=1)
BODY = hashlib.sha256(b"body").digest()

_numbers = itertools.count(1)


def new_email(key: str | None = None, **fields: Any) -> NewEmail:
    """An email that can be accepted."""
    values: dict[str, Any] = {
        "id": uuid_utils.compat.uuid7(),
        "idempotency_key": key if key is not None else f"key-{next(_numbers)}",
        "fingerprint": b"f" * 32,
        "kind": "WELCOME",
        "priority": "HIGH",
        "from_address": "a@example.com",
        "recipients": ["b@example.com"],
        "subject": "Hello",
        "message": b"message",
        **fields,
    }
    return NewEmail(**values)


def send_of(*email_ids: str, send_id: str | None = None) -> NewSend:
    """A new send; of several emails under an id of its own."""
    if send_id is None and len(email_ids) > 1:
        send_id = f"batch-{next(_numbers)}"
    return NewSend(email_ids, SINGLE if send_id is None else BATCH, BODY, send_id)


def failed(claim: Claim, action: FailureAction, **fields: Any) -> FailedSend:
    """A request that was not accepted: of unknown outcome for RETRY and BURY, refused for the others."""
    values: dict[str, Any] = {
        "refused": action not in (FailureAction.RETRY, FailureAction.BURY),
        "counted": action not in (FailureAction.RELEASE, FailureAction.EXPIRE),
        "error": "what the provider said",
        "reason": {FailureAction.REJECT: "REJECTED", FailureAction.BURY: "ATTEMPTS_EXHAUSTED"}.get(action),
        **fields,
    }
    return FailedSend(claim=claim, action=action, **values)


def malformed(entry_id: str = "1-1", stream: str = "sred:email:send", **fields: Any) -> MalformedEntry:
    """A stream entry that is no email."""
    values: dict[str, Any] = {
        "id": uuid.uuid4(),
        "error": "no email",
        "raw_entry": b"\x00raw",
        "fields_sha256": BODY,
        **fields,
    }
    return MalformedEntry(stream=stream, entry_id=entry_id, **values)


class LogWorld:
    """A log with emails in any state."""

    def __init__(self, pool: "asyncpg.Pool[Any]") -> None:
        self.pool = pool
        self.acceptance = AcceptanceLog(pool)
        self.letters = self.dead_letters()
        self.log = self.consumer()

    def consumer(self, owner: str = "me", *, lease: timedelta = LEASE, horizon: timedelta = LONG) -> DeliveryLog:
        """The log of one consumer."""
        return DeliveryLog(self.pool, owner=owner, lease=lease, horizon=horizon)

    def dead_letters(self, horizon: timedelta = LONG) -> DeadLetterLog:
        """The dead letters, with a horizon."""
        return DeadLetterLog(self.pool, horizon=horizon)

    async def accept(self, count: int = 1, **fields: Any) -> list[str]:
        """Accept new emails; their ids."""
        emails = [new_email(**fields) for _ in range(count)]
        assert len(await self.acceptance.accept(emails)) == count
        return [str(email.id) for email in emails]

    async def claimed(self, *email_ids: str, log: DeliveryLog | None = None) -> Claim:
        """Claim emails that are free, as one send; without any, a new one."""
        ids = email_ids or tuple(await self.accept())
        (claim,) = await (log or self.log).claim([send_of(*ids)])
        assert isinstance(claim, Claim), claim
        return claim

    async def recorded(
        self, claim: Claim, action: FailureAction, *, log: DeliveryLog | None = None, **fields: Any
    ) -> RecordedFailure:
        """Record a failure under a claim that is still held; what became of the send."""
        (recorded,) = await (log or self.log).record_failures([failed(claim, action, **fields)])
        assert recorded is not None
        return recorded

    async def fail(
        self, claim: Claim, action: FailureAction, *, log: DeliveryLog | None = None, **fields: Any
    ) -> dict[str, str | None]:
        """Record a failure that becomes of the send what was asked; the dead letter of each email."""
        recorded = await self.recorded(claim, action, log=log, **fields)
        assert recorded.action is action
        return recorded.letters

    async def retrying(self, *email_ids: str, **fields: Any) -> Claim:
        """Claim emails as one send whose outcome stays unknown; the claim that is over."""
        claim = await self.claimed(*email_ids)
        await self.fail(claim, FailureAction.RETRY, **fields)
        return claim

    async def repeat(self, email_id: str, *, log: DeliveryLog | None = None, alive: Collection[str] = ()) -> Repeat:
        """Try to take over the send of an email."""
        (repeat,) = await (log or self.log).claim_repeats([email_id], alive)
        return repeat

    async def repeated(self, email_id: str, *, log: DeliveryLog | None = None) -> Claim:
        """Take over the send of an email, whose lease is free."""
        repeat = await self.repeat(email_id, log=log)
        assert repeat.claim is not None, repeat
        return repeat.claim

    async def buried(self, *email_ids: str, **fields: Any) -> dict[str, str]:
        """Claim emails as one send and bury it; the dead letter of each email."""
        claim = await self.claimed(*email_ids)
        letters = await self.fail(claim, FailureAction.BURY, **fields)
        return {email_id: letter for email_id, letter in letters.items() if letter is not None}

    async def rejected(self, email_id: str | None = None) -> tuple[str, str]:
        """Claim an email and let it be rejected; its id and its dead letter's."""
        email_id = email_id or (await self.accept())[0]
        letters = await self.fail(await self.claimed(email_id), FailureAction.REJECT)
        letter = letters[email_id]
        assert letter is not None
        return email_id, letter

    async def email(self, email_id: str) -> asyncpg.Record:
        """A row of the log."""
        return await self.one("SELECT * FROM email_send_log WHERE id = $1", uuid.UUID(email_id))

    async def send(self, send_id: str) -> asyncpg.Record | None:
        """A send; None: there is none."""
        return await self.pool.fetchrow("SELECT * FROM email_sends WHERE id = $1", send_id)

    async def open_send(self, send_id: str) -> asyncpg.Record:
        """A send that must be there."""
        send = await self.send(send_id)
        assert send is not None
        return send

    async def members(self, send_id: str) -> list[str]:
        """The emails of a send, in order."""
        rows = await self.pool.fetch(
            "SELECT email_id FROM email_send_members WHERE send_id = $1 ORDER BY position", send_id
        )
        return [str(row["email_id"]) for row in rows]

    async def letter(self, letter_id: str) -> asyncpg.Record:
        """A dead letter, open or not."""
        return await self.one("SELECT * FROM email_dead_letters WHERE id = $1", uuid.UUID(letter_id))

    async def events(self, email_id: str) -> list[str]:
        """What happened to an email, in order."""
        rows = await self.pool.fetch(
            "SELECT what FROM email_events WHERE email_id = $1 ORDER BY sequence", uuid.UUID(email_id)
        )
        return [row["what"] for row in rows]

    async def one(self, sql: str, *args: object) -> asyncpg.Record:
        """The one row of a query."""
        rows: list[asyncpg.Record] = await self.pool.fetch(sql, *args)
        (row,) = rows
        return row

    async def count(self, table: str) -> int:
        """How many rows a table has."""
        return int(await self.pool.fetchval(f"SELECT count(*) FROM {table}"))  # noqa: S608 - a table of ours

    async def change(self, email_id: str, assignments: str) -> None:
        """Let an email have become something else meanwhile."""
        await self.pool.execute(
            f"UPDATE email_send_log SET {assignments} WHERE id = $1",  # noqa: S608 - a literal of a test
            uuid.UUID(email_id),
        )

    @asynccontextmanager
    async def uncommitted(self, name: str, *args: object) -> AsyncIterator["Transaction"]:
        """Run a statement in a transaction of its own, which is committed when the context ends."""
        async with self.pool.acquire() as connection, connection.transaction():
            yield Transaction(connection, await connection.fetch(query(name), *args))

    async def until_blocked(self, *works: "asyncio.Task[Any]") -> None:
        """Wait until each of these has ended or waits for a lock of another transaction."""
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
        )
        async with asyncio.timeout(10):
            while sum(not work.done() for work in works) > await self.pool.fetchval(blocked):
                await asyncio.sleep(0)

    async def snapshot(self) -> dict[str, list[tuple[Any, ...]]]:
        """Everything in the log, to see that nothing was touched."""
        return {
            table: [tuple(row) for row in await self.pool.fetch(f"SELECT * FROM {table} ORDER BY 1")]  # noqa: S608 - the same
            for table in ("email_send_log", "email_sends", "email_send_members", "email_dead_letters", "email_events")
        }


def accepted(send_id: str, *email_ids: str, refused: Sequence[str] = ()) -> AnsweredSend:
    """What a 200 said about the emails of a send."""
    return AnsweredSend(
        send_id,
        tuple(AcceptedEmail(email_id, f"provider-{email_id}") for email_id in email_ids),
        tuple(RefusedEmail(email_id, "no such address") for email_id in refused),
    )


@dataclass(frozen=True)
class Transaction:
    """One that is not committed yet, and what its first statement answered."""

    connection: "PoolConnectionProxy[Any]"
    rows: list[asyncpg.Record]

    async def run(self, name: str, *args: object) -> list[asyncpg.Record]:
        """Run another statement in it."""
        rows: list[asyncpg.Record] = await self.connection.fetch(query(name), *args)
        return rows


def claim_columns(send: NewSend, owner: str = "other", lease: timedelta = LEASE) -> list[object]:
    """The parameters of claim_sends.sql."""
    shape, count = send.shape, len(send.email_ids)
    of_send = [send.send_id, shape.endpoint, shape.serializer_version, shape.redirect_to, shape.configured_headers]
    of_emails = [[1] * count, list(send.email_ids), list(range(count))]
    return [*([value] for value in of_send), [send.body_sha256], *of_emails, owner, lease, [None] * count]


def failure_columns(failure: FailedSend, owner: str = "other", horizon: timedelta = LONG) -> list[object]:
    """The parameters of record_failures.sql."""
    f = failure
    of_send = [f.claim.send_id, f.claim.fence, f.refused, f.counted, f.action.value, f.delay, f.error, f.reason]
    return [*([value] for value in of_send), [f.key_spent], [f.alone], owner, horizon]


def answer_columns(*answers: AnsweredSend) -> list[object]:
    """The parameters of record_answers.sql."""
    taken = [(e.email_id, e.provider_message_id, s.send_id) for s in answers for e in s.accepted]
    refused = [(e.email_id, e.error, s.send_id) for s in answers for e in s.refused]
    return [*([row[n] for row in rows] for rows in (taken, refused) for n in range(3)), "me"]


def claims_of(answers: Sequence[Claim | dict[str, Standing]]) -> list[Claim]:
    """Those answers that are claims."""
    return [answer for answer in answers if isinstance(answer, Claim)]


def standings_of(answer: Claim | dict[str, Standing]) -> dict[str, Standing]:
    """Why a send was not claimed."""
    assert isinstance(answer, dict), answer
    return answer
