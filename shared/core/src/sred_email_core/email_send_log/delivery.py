"""The log as the consumer's delivery uses it: claims before a POST, records after it."""

import uuid
from collections import defaultdict
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import (
    AcceptedEmail,
    Claim,
    FailedSend,
    MalformedEntry,
    Member,
    NewSend,
    Refusal,
    Repeat,
    RepeatState,
    SendShape,
)
from sred_email_core.email_send_log.sql import query
from sred_email_core.errors import LogUnavailableError, UnstorableError

_CLAIM_TRIES = 5


class DeliveryLog:
    """Claims sends and records their outcomes, many in one statement.

    Every method raises LogUnavailableError when PostgreSQL does not answer; repeating the call is then safe, but a
    claim whose answer was lost is found as an open send of its own.
    """

    def __init__(self, pool: "asyncpg.Pool[Any]", *, owner: str, lease: timedelta, horizon: timedelta) -> None:
        """Bind the log to one consumer.

        Args:
            pool: Of connections.
            owner: Name of the consumer process.
            lease: How long a claim keeps others from the send; longer than any attempt.
            horizon: How long after its first POST a send that may have been accepted may be repeated.
        """
        self._pool = pool
        self._owner = owner
        self._lease = lease
        self._horizon = horizon

    async def claim(self, sends: Sequence[NewSend]) -> list[Claim | dict[str, Refusal]]:
        """Make new sends, each wholly or not at all.

        Returns:
            For each send its claim, or why it was not made: a refusal for each email that is not free.
        """
        results: dict[int, Claim | dict[str, Refusal]] = {}
        left = list(enumerate(sends))
        while left:
            # One statement can't see its own rows: sends with an email or a key in common go one after the other.
            taken: set[str] = set()
            this_round: list[tuple[int, NewSend]] = []
            later: list[tuple[int, NewSend]] = []
            for index, send in left:
                names = {*send.email_ids, *([send.send_id] if send.send_id else [])}
                (later if names & taken else this_round).append((index, send))
                taken |= names
            claims = await self._claim_distinct([send for _, send in this_round])
            results.update(zip((index for index, _ in this_round), claims, strict=True))
            left = later
        return [results[index] for index in range(len(sends))]

    async def _claim_distinct(self, sends: Sequence[NewSend]) -> list[Claim | dict[str, Refusal]]:
        numbered = list(enumerate(sends, 1))
        members = [(number, i, p) for number, send in numbered for p, i in enumerate(send.email_ids)]
        columns: list[Any] = [
            [s.send_id for s in sends],
            [s.shape.endpoint for s in sends],
            [s.shape.serializer_version for s in sends],
            [s.shape.redirect_to for s in sends],
            [s.shape.configured_headers for s in sends],
            [s.body_sha256 for s in sends],
            [number for number, _, _ in members],
            [email_id for _, email_id, _ in members],
            [position for _, _, position in members],
            self._owner,
            self._lease,
        ]
        rows = await self._fetch_claims(columns)
        by_number: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            by_number[row["send_number"]].append(row)
        return [_claim_or_refusals(by_number[number]) for number, _ in numbered]

    async def _fetch_claims(self, columns: list[Any]) -> list[asyncpg.Record]:
        for _ in range(_CLAIM_TRIES):
            try:
                return await postgres.run(lambda: self._pool.fetch(query("claim_sends"), *columns))
            except UnstorableError as e:
                # Another claim of one of these emails was committed after this statement's snapshot: the next sees it.
                if not isinstance(e.__cause__, asyncpg.UniqueViolationError):
                    raise
        raise LogUnavailableError("PostgreSQL: claims of the same emails keep getting in each other's way")

    async def claim_repeats(self, email_ids: Sequence[str]) -> list[Repeat]:
        """Take over the open sends of these emails, where their lease is free; one answer for each email."""
        rows = await postgres.run(
            lambda: self._pool.fetch(query("claim_repeats"), list(email_ids), self._owner, self._lease, self._horizon)
        )
        members: defaultdict[str, list[Member]] = defaultdict(list)
        if rows:
            send_ids = [row["send_id"] for row in rows]
            for m in await postgres.run(lambda: self._pool.fetch(query("get_members"), send_ids)):
                members[m["send_id"]].append(
                    Member(
                        email_id=str(m["email_id"]),
                        kind=m["kind"],
                        priority=m["priority"],
                        status=m["status"],
                        attempts=m["attempts"],
                        created_at=m["created_at"],
                        expire_at=m["expire_at"],
                        message=m["message"],
                    )
                )
        by_email: dict[str, Repeat] = {}
        for row in rows:
            repeat = _repeat(row, tuple(members[row["send_id"]]))
            by_email.update({member.email_id: repeat for member in repeat.members})
        return [by_email.get(email_id, Repeat(RepeatState.GONE)) for email_id in email_ids]

    async def undo_claims(self, claims: Sequence[Claim]) -> None:
        """Give back claims whose POST was not begun."""
        columns = [[c.send_id for c in claims], [c.fence for c in claims]]
        await postgres.run(lambda: self._pool.fetch(query("undo_claims"), *columns))

    async def record_accepted(self, emails: Sequence[AcceptedEmail]) -> dict[str, str]:
        """Close emails as SUCCESS; the ids of the dead letters that this resolved, by email id."""
        columns = [
            [e.email_id for e in emails],
            [e.provider_message_id for e in emails],
            [e.send_id for e in emails],
            self._owner,
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_accepted"), *columns))
        return {str(row["email_id"]): str(row["dead_letter_id"]) for row in rows if row["dead_letter_id"] is not None}

    async def record_failures(self, sends: Sequence[FailedSend]) -> list[dict[str, str | None] | None]:
        """Record requests that were not accepted, fenced.

        Returns:
            For each send, the dead letter id (or None) of each of its emails; None: the send is another owner's now.
        """
        columns: list[Any] = [
            [s.claim.send_id for s in sends],
            [s.claim.fence for s in sends],
            [s.refused for s in sends],
            [s.counted for s in sends],
            [s.action.value for s in sends],
            [s.delay for s in sends],
            [s.error for s in sends],
            [s.reason for s in sends],
            [s.key_spent for s in sends],
            self._owner,
            self._horizon,
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_failures"), *columns))
        letters: dict[str, dict[str, str | None]] = {}
        for row in rows:
            emails = letters.setdefault(row["send_id"], {})
            if row["email_id"] is not None:
                emails[str(row["email_id"])] = None if row["dead_letter_id"] is None else str(row["dead_letter_id"])
        return [letters.get(s.claim.send_id) for s in sends]

    async def record_malformed(self, entries: Sequence[MalformedEntry]) -> list[str]:
        """Keep entries that are no emails as dead letters; the letter's id for each, the same when repeated."""
        columns = [
            [e.id for e in entries],
            [e.error for e in entries],
            [e.raw_entry for e in entries],
            [e.stream for e in entries],
            [e.entry_id for e in entries],
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_malformed"), *columns))
        ids = {(row["source_stream"], row["source_entry_id"]): str(row["id"]) for row in rows}
        return [ids[e.stream, e.entry_id] for e in entries]

    async def get_messages(self, email_ids: Sequence[str]) -> dict[str, bytes]:
        """Frozen contents (serialized EmailContent) of those emails that still have one."""
        ids = [uuid.UUID(i) for i in email_ids]
        rows = await postgres.run(lambda: self._pool.fetch(query("get_messages"), ids))
        return {str(row["id"]): row["message"] for row in rows}


def _claim_or_refusals(rows: list[asyncpg.Record]) -> Claim | dict[str, Refusal]:
    if rows and rows[0]["send_id"] is not None:
        return Claim(send_id=rows[0]["send_id"], fence=rows[0]["fence"], attempts=max(row["attempts"] for row in rows))
    return {
        str(row["email_id"]): Refusal(
            status=row["status"],
            ended=bool(row["ended"]),
            expired=bool(row["expired"]),
            first_of_open_send=None if row["first_of_open_send"] is None else str(row["first_of_open_send"]),
            lease_left=row["lease_left"] or timedelta(),
        )
        for row in rows
        if not row["free"]
    }


def _repeat(row: asyncpg.Record, members: tuple[Member, ...]) -> Repeat:
    if row["fence"] is None:
        return Repeat(RepeatState.LEASED, members=members)
    past_horizon = bool(row["past_horizon"])
    return Repeat(
        state=RepeatState.PAST_HORIZON if past_horizon else RepeatState.CLAIMED,
        claim=Claim(
            send_id=row["send_id"],
            fence=row["fence"],
            attempts=max((m.attempts for m in members), default=0),
            requests_begun=row["requests_begun"] + 1,
            requests_refused=row["requests_refused"],
            owners=row["owners"],
        ),
        shape=SendShape(
            endpoint=row["endpoint"],
            serializer_version=row["serializer_version"],
            redirect_to=row["redirect_to"],
            configured_headers=row["configured_headers"],
        ),
        body_sha256=row["body_sha256"],
        members=members,
    )
