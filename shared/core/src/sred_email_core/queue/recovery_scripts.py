"""A typed face over the scripts that compare what Redis holds with what the log says."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

from sred_email_core.queue.keys import GROUP, QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner

EmailId = str | bytes
"""Bytes where something else stands there."""

_CHUNK = 250
"""Emails in one call of a script: bounds how long Redis is blocked, some milliseconds where each carries 64 kB."""


@dataclass(frozen=True, slots=True)
class OpenEmail:
    """An email that must have a place.

    Attributes:
        email_id: Its id.
        first_of_send: First email of the open send that it is in; empty: it is in none.
    """

    email_id: str
    first_of_send: str = ""


@dataclass(frozen=True, slots=True)
class LostSend:
    """An open send that nobody would find.

    Attributes:
        first_email_id: It is repeated under this id.
        without_place: Its emails that have no place.
        delay: Until its lease is free and its next attempt is due.
    """

    first_email_id: str
    without_place: tuple[str, ...]
    delay: timedelta


@dataclass(frozen=True, slots=True)
class ScannedIds:
    """Some of the ids that are the fields of a hash.

    Attributes:
        cursor: To go on from: ``0`` at the end.
        ids: As the services write them.
        others: Fields that are no ids.
    """

    cursor: str
    ids: list[str]
    others: list[bytes]

    @classmethod
    def of_answer(cls, answer: tuple[bytes, bytes, list[bytes]]) -> "ScannedIds":
        """Read what scan_ids.lua returns."""
        cursor, ids, others = answer
        return cls(cursor.decode(), ids.decode("ascii").split(), others)


@dataclass(frozen=True, slots=True)
class QueueCounts:
    """How much the queue holds.

    Attributes:
        entries: On the streams.
        retry: Members of the retry set: emails that wait alone, and sends.
        places: Emails that have one.
        parked: Messages of emails that wait alone.
    """

    entries: int
    retry: int
    places: int
    parked: int


class WaitingIn(StrEnum):
    """Where an email that waits has left something: the retry set, or the parked messages."""

    RETRY = "retry"
    PARKED = "parked"


class RecoveryScripts:
    """The scripts of the reconciler that touch emails, each described in its own header.

    Every method raises QueueUnavailableError when Redis does not answer or refuses; repeating it is safe.
    """

    def __init__(self, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._run = runner.run
        self._keys = keys
        self._held = [*keys.streams, keys.retry, keys.places, keys.parked]

    async def without_true_place(self, emails: Sequence[OpenEmail], *, forget: bool = False) -> list[OpenEmail]:
        """Those emails that are not where they are said to be, or said to be nowhere.

        Args:
            emails: Open ones.
            forget: Places that are not true are forgotten, with what belonged to them.
        """
        found: list[OpenEmail] = []
        for start in range(0, len(emails), _CHUNK):
            chunk = emails[start : start + _CHUNK]
            told = " ".join(f"{e.email_id}/{e.first_of_send}" if e.first_of_send else e.email_id for e in chunk)
            numbers = await self._run("check_places", self._held, [int(forget), GROUP, told])
            found += [chunk[number - 1] for number in numbers]
        return found

    async def place_sends(self, sends: Sequence[LostSend]) -> int:
        """Give open sends the place back from which they are repeated; how many emails got one."""
        keys = [self._keys.retry, self._keys.places, self._keys.parked, self._keys.doorbell]
        placed = 0
        for chunk in _by_emails(sends):
            args = [
                part
                for send in chunk
                for part in (send.first_email_id, _ms(send.delay), len(send.without_place), *send.without_place)
            ]
            placed += await self._run("place_sends", keys, args)
        return placed

    async def scan_places(self, cursor: str, *, count: int) -> ScannedIds:
        """Go on through the emails that have a place.

        Args:
            cursor: Of the page before; ``0``: from the start.
            count: About how many; the page may be longer or empty.
        """
        return ScannedIds.of_answer(await self._run("scan_ids", [self._keys.places], [cursor, count]))

    async def places(self, email_ids: Sequence[EmailId]) -> list[bytes]:
        """Where emails are said to be; empty: nowhere."""
        found: list[bytes] = []
        for start in range(0, len(email_ids), _CHUNK):
            chunk = email_ids[start : start + _CHUNK]
            found += await self._run("get_places", [self._keys.places], list(chunk))
        return found

    async def forget(self, places: Sequence[tuple[EmailId, bytes]]) -> int:
        """Forget where emails are, told as (email id, place as it was seen), unless they moved meanwhile.

        Returns:
            How many were forgotten; those whose entry is still on its stream were not.
        """
        forgotten = 0
        for start in range(0, len(places), _CHUNK):
            args = [part for pair in places[start : start + _CHUNK] for part in pair]
            forgotten += await self._run("forget_places", self._held, args)
        return forgotten

    async def drop_leftovers(self, where: WaitingIn, cursor: str, *, count: int) -> tuple[str, int]:
        """Drop what is held of emails whose place is elsewhere; the cursor to go on from, and how many were dropped."""
        keys = [self._keys.retry, self._keys.places, self._keys.parked]
        next_cursor, dropped = await self._run("drop_leftovers", keys, [where.value, cursor, count])
        return next_cursor.decode(), dropped

    async def count(self) -> QueueCounts:
        """How much there is."""
        return QueueCounts(*await self._run("count_queue", self._held, []))


def _by_emails(sends: Sequence[LostSend]) -> Iterator[list[LostSend]]:
    """Sends in groups of about as many emails as one call should touch."""
    group: list[LostSend] = []
    emails = 0
    for send in sends:
        group.append(send)
        emails += 1 + len(send.without_place)
        if emails >= _CHUNK:
            yield group
            group, emails = [], 0
    if group:
        yield group


def _ms(duration: timedelta) -> int:
    return max(0, round(duration.total_seconds() * 1000))
