"""The log as the consumer's delivery uses it: claims before a POST, records after it."""

import itertools
import uuid
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import timedelta
from typing import Any

import asyncpg

from sred_email_core import postgres
from sred_email_core.email_send_log.records import (
    AnsweredSend,
    Claim,
    DeadLetter,
    FailedSend,
    FailureAction,
    MalformedEntry,
    Member,
    NewSend,
    RecordedFailure,
    Repeat,
    RepeatState,
    SendShape,
    Standing,
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

    async def claim(self, sends: Sequence[NewSend]) -> list[Claim | dict[str, Standing]]:
        """Make new sends, each wholly or not at all.

        Returns:
            For each send its claim, or why it was not made: where each email stands that is not free.
        """
        results: dict[int, Claim | dict[str, Standing]] = {}
        left = list(enumerate(sends))
        for attempt in itertools.count(1):
            # One statement can't see its own rows: sends with an email or a key in common go one after the other.
            taken: set[str] = set()
            this_round: list[tuple[int, NewSend]] = []
            later: list[tuple[int, NewSend]] = []
            for index, send in left:
                names = {*send.email_ids, *([send.send_id] if send.send_id else [])}
                (later if names & taken else this_round).append((index, send))
                taken |= names
            claims = await self._claim_distinct([send for _, send in this_round])
            for (index, send), claim in zip(this_round, claims, strict=True):
                results[index] = claim
                if isinstance(claim, dict) and attempt < _CLAIM_TRIES and any(map(_is_contended, claim.values())):
                    later.append((index, send))
            left = later
            if not left:
                break
        return [results[index] for index in range(len(sends))]

    async def _claim_distinct(self, sends: Sequence[NewSend]) -> list[Claim | dict[str, Standing]]:
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
            [_joined(send.left_out.get(i)) for send in sends for i in send.email_ids],
        ]
        rows = await self._fetch_claims(columns)
        by_number: defaultdict[int, list[asyncpg.Record]] = defaultdict(list)
        for row in rows:
            by_number[row["send_number"]].append(row)
        return [_claim_or_standings(by_number[number]) for number, _ in numbered]

    async def _fetch_claims(self, columns: list[Any]) -> list[asyncpg.Record]:
        for _ in range(_CLAIM_TRIES):
            try:
                return await postgres.run(lambda: self._pool.fetch(query("claim_sends"), *columns))
            except UnstorableError as e:
                # Another claim of one of these emails was committed after this statement's snapshot: the next sees it.
                if not isinstance(e.__cause__, asyncpg.UniqueViolationError):
                    raise
        raise LogUnavailableError("PostgreSQL: claims of the same emails keep getting in each other's way")

    async def claim_repeats(self, email_ids: Sequence[str], alive: Collection[str]) -> list[Repeat]:
        """Take over the open sends of these emails, where that may be done now; one answer for each email.

        Args:
            email_ids: One email of each send.
            alive: Owners that gave a sign of life of late: a lease of theirs that ran out is no death.
        """
        columns = [list(email_ids), self._owner, self._lease, self._horizon, list(alive)]
        rows = await postgres.run(lambda: self._pool.fetch(query("claim_repeats"), *columns))
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
                        left_out=tuple(m["left_out"] or ()),
                        send_at=m["send_at"],
                        traceparent=m["traceparent"],
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

    async def record_answers(self, sends: Sequence[AnsweredSend]) -> dict[str, str]:
        """Close what the provider accepted as SUCCESS, let what it refused within a batch go alone.

        Returns:
            The ids of the dead letters that this resolved, by email id.
        """
        accepted = [(e.email_id, e.provider_message_id, s.send_id) for s in sends for e in s.accepted]
        refused = [(e.email_id, e.error, s.send_id) for s in sends for e in s.refused]
        columns: list[Any] = [[row[n] for row in rows] for rows in (accepted, refused) for n in range(3)]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_answers"), *columns, self._owner))
        letters = {
            str(row["email_id"]): str(row["dead_letter_id"]) for row in rows if row["dead_letter_id"] is not None
        }
        unseen = [row["email_id"] for row in rows if row["had_failed"] and row["dead_letter_id"] is None]
        if unseen:
            rows = await postgres.run(lambda: self._pool.fetch(query("resolve_delivered"), unseen))
            letters.update({str(row["email_id"]): str(row["dead_letter_id"]) for row in rows})
        return letters

    async def record_failures(self, sends: Sequence[FailedSend]) -> list[RecordedFailure | None]:
        """Record requests that were not accepted, fenced; told again, the same is answered.

        Returns:
            For each send what became of it; None: it is another owner's now, or is gone.
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
            [s.alone for s in sends],
            self._owner,
            self._horizon,
        ]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_failures"), *columns))
        recorded: dict[str, RecordedFailure] = {}
        for row in rows:
            failure = recorded.setdefault(row["send_id"], RecordedFailure(FailureAction(row["action"]), {}))
            if row["email_id"] is not None:
                letter = row["dead_letter_id"]
                failure.letters[str(row["email_id"])] = None if letter is None else str(letter)
        return [recorded.get(s.claim.send_id) for s in sends]

    async def record_expired(self, email_ids: Sequence[str]) -> set[str]:
        """End those of these emails that have expired and are in no open send; their ids."""
        ids = [uuid.UUID(i) for i in email_ids]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_expired"), ids, self._owner))
        return {str(row["id"]) for row in rows}

    async def record_suppressed(self, email_ids: Sequence[str]) -> set[str]:
        """End those of these emails that are in no open send: nobody in "to" may get them. Their ids."""
        ids = [uuid.UUID(i) for i in email_ids]
        rows = await postgres.run(lambda: self._pool.fetch(query("record_suppressed"), ids, self._owner))
        return {str(row["id"]) for row in rows}

    async def record_poison(self, email_id: str, error: str) -> DeadLetter | None:
        """Give up an email whose entry killed one owner after the other; None: it has ended, or is in an open send."""
        letter = await postgres.run(
            lambda: self._pool.fetchval(query("record_poison"), uuid.UUID(email_id), error, self._owner)
        )
        return None if letter is None else DeadLetter(str(letter), "POISON", error)

    async def record_malformed(self, entry: MalformedEntry) -> str:
        """Keep an entry that is no email as a dead letter; the letter's id, the same when repeated."""
        columns = (
            *(entry.id, entry.error, entry.raw_entry, entry.fields_sha256),
            *(entry.stream, entry.entry_id, entry.named_email_id),
        )
        for _ in range(_CLAIM_TRIES):
            rows = await postgres.run(lambda: self._pool.fetch(query("record_malformed"), *columns))
            if rows:
                return str(rows[0]["id"])
        raise LogUnavailableError("PostgreSQL: letters of the same email keep getting in each other's way")

    async def get_standings(self, email_ids: Sequence[str]) -> dict[str, Standing]:
        """Where emails stand, of those that are in the log."""
        ids = [uuid.UUID(i) for i in email_ids]
        rows = await postgres.run(lambda: self._pool.fetch(query("get_standings"), ids))
        return {
            str(row["email_id"]): _standing(
                row,
                None
                if row["dead_letter_id"] is None
                else DeadLetter(str(row["dead_letter_id"]), row["reason"], row["error"]),
            )
            for row in rows
        }

    async def get_messages(self, email_ids: Sequence[str]) -> dict[str, bytes]:
        """Frozen contents (serialized EmailContent) of those emails that still have one."""
        ids = [uuid.UUID(i) for i in email_ids]
        rows = await postgres.run(lambda: self._pool.fetch(query("get_messages"), ids))
        return {str(row["id"]): row["message"] for row in rows}


def _joined(places: Sequence[int] | None) -> str | None:
    return ",".join(map(str, places)) if places else None


def _is_contended(standing: Standing) -> bool:
    """Whether somebody's send of this email was committed after the snapshot: the next statement sees it."""
    return standing.status == "SENDING" and standing.first_of_open_send is None and not standing.ended


def _claim_or_standings(rows: list[asyncpg.Record]) -> Claim | dict[str, Standing]:
    if rows and rows[0]["send_id"] is not None:
        return Claim(
            send_id=rows[0]["send_id"],
            fence=rows[0]["fence"],
            attempts=max(row["attempts"] for row in rows),
            expires_in=min((row["expires_in"] for row in rows if row["expires_in"] is not None), default=None),
        )
    return {str(row["email_id"]): _standing(row) for row in rows if not row["free"]}


def _standing(row: asyncpg.Record, dead_letter: DeadLetter | None = None) -> Standing:
    return Standing(
        status=row["status"],
        ended=bool(row["ended"]),
        expired=bool(row["expired"]),
        first_of_open_send=None if row["first_of_open_send"] is None else str(row["first_of_open_send"]),
        wait=row["wait"] or timedelta(),
        attempts=row["attempts"] or 0,
        dead_letter=dead_letter,
    )


def _repeat(row: asyncpg.Record, members: tuple[Member, ...]) -> Repeat:
    if row["fence"] is None:
        return Repeat(RepeatState.NOT_YET, members=members, wait=row["wait"])
    state = RepeatState.CLAIMED
    if row["past_horizon"]:
        state = RepeatState.PAST_HORIZON
    elif row["expired"]:
        state = RepeatState.EXPIRED
    return Repeat(
        state=state,
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
        deaths=row["deaths"],
    )
