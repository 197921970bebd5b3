"""A typed face over the Lua scripts: every move in Redis is one of these calls."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from sred_email_core.queue.codec import QueuedEmail, encode
from sred_email_core.queue.keys import GROUP, ORPHANS, Lane, QueueKeys
from sred_email_core.queue.script_runner import ScriptRunner

_T = TypeVar("_T")

_CHUNK = 100
"""Emails in one call of a script: bounds how long Redis is blocked."""
_HELD, _PAUSES_MISSING = 1, 2
"""What take says before everything else."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A stream entry that this consumer owns.

    Attributes:
        lane: The stream it is on.
        entry_id: Its id there.
        pairs: Names and values, as they are; a name may stand there more than once.
        deaths: Owners that died while they had it.
    """

    lane: Lane
    entry_id: str
    pairs: tuple[tuple[bytes, bytes], ...]
    deaths: int = 0

    @property
    def fields(self) -> dict[bytes, bytes]:
        """Values by name."""
        return dict(self.pairs)


@dataclass(frozen=True, slots=True)
class Wish:
    """What a consumer could send now.

    Attributes:
        slots: The most requests; 1 or more.
        requests_per_second: Limit over all replicas; 0: none.
        claim_idle: After which a repeat that nobody settles is due again.
        batch_size: The most emails in a request.
        batch_bytes: The most content in a request of several.
        suspect: Whether an entry that owners died with may be among them.
        low_share: Of the places, what LOW keeps while higher lanes have work; 0 to 1.
        probe_interval: Between single emails that are tried while delivery is stopped.
        probe_patience: After which such an email that nobody reported is given up; longer than any attempt.
        accepted: A request of this consumer was accepted since it asked last.
    """

    slots: int
    requests_per_second: float
    claim_idle: timedelta
    batch_size: int = 1
    batch_bytes: int = 1024 * 1024
    suspect: bool = True
    low_share: float = 0.1
    probe_interval: timedelta = timedelta(seconds=15)
    probe_patience: timedelta = timedelta(seconds=16)
    accepted: bool = False


@dataclass(frozen=True, slots=True)
class DispatchWeather:
    """What holds or slows delivery, for every replica.

    Attributes:
        state: Name of the DispatchState.
        reason: Why it is not RUNNING.
        refused_name: Name of the refusals that stopped delivery; empty: something else did, or nothing.
        limit_known: Whether it is known what limit the provider has.
        provider_limit: That limit, in requests per second; None: the provider does not say, or it is not known.
        domains: Sender domains whose emails wait, because the provider refuses them.
    """

    state: str = "RUNNING"
    reason: str = ""
    refused_name: str = ""
    limit_known: bool = False
    provider_limit: float | None = None
    domains: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Grant:
    """Leave to make one request.

    Attributes:
        number: By which the limiter knows it.
        ready_in: Until it may go out.
    """

    number: int
    ready_in: timedelta


@dataclass(frozen=True, slots=True)
class Taken:
    """What one call of take gave.

    Attributes:
        held: Nothing may be sent before ``wait`` is over, whatever comes.
        wait: Until asking again may give more; None: nothing is known to come.
        repeats: For each send to be repeated, the id of its first email.
        requests: New work: the entries of each request, highest lane first.
        alive: Consumers that gave a sign of life of late; told where there are repeats.
        weather: What holds or slows delivery.
        probe: Number of the state that this work, one request, is to probe; 0: it is not.
        pauses_missing: Nothing is taken before the pauses of the log are copied to Redis.
        grants: One for each repeat, then for each request; empty: there is no limit.
    """

    held: bool
    wait: timedelta | None
    repeats: list[str]
    requests: list[list[Entry]]
    alive: frozenset[str] = frozenset()
    weather: DispatchWeather = DispatchWeather()
    probe: int = 0
    pauses_missing: bool = False
    grants: tuple[Grant, ...] = ()


@dataclass(frozen=True, slots=True)
class Finished:
    """An email whose entry needs nothing more.

    Attributes:
        first_email_id: Of a send that another owner may have parked it in meanwhile, which is over; empty: of none.
    """

    lane: Lane
    entry_id: str
    email_id: str
    first_email_id: str = ""


@dataclass(frozen=True, slots=True)
class Parked:
    """An email that leaves its entry to wait in the retry set.

    Attributes:
        delay: For how long; none: it goes to the end of its stream at once.
        alone: From now on it shares its request with no other.
    """

    lane: Lane
    entry_id: str
    email_id: str
    delay: timedelta
    alone: bool = False


@dataclass(frozen=True, slots=True)
class ParkedInSend:
    """An email whose place from now on is a send that waits for its repeat.

    Attributes:
        first_email_id: The send's member in the retry set.
        email_id: This email.
        delay: Until the send is due.
        lane: Of the entry that it leaves; None: it leaves none.
        entry_id: That entry's id.
    """

    first_email_id: str
    email_id: str
    delay: timedelta
    lane: Lane | None = None
    entry_id: str = ""


@dataclass(frozen=True, slots=True)
class Promoted:
    """What one call of promote did.

    Attributes:
        moved: Emails that went back to their streams.
        staying: Members that were due and stay: sends.
        next_due: Until the next member is due; None: none waits.
    """

    moved: int
    staying: int
    next_due: timedelta | None


class QueueScripts:
    """The scripts in ``lua/``, each described in its own header.

    Every method raises QueueUnavailableError when Redis does not answer; whether the move took place is then unknown,
    and repeating it is safe.
    """

    def __init__(self, runner: ScriptRunner, keys: QueueKeys) -> None:
        self._run = runner.run
        self._keys = keys

    async def publish(self, emails: Sequence[QueuedEmail]) -> int:
        """Put emails on their streams, or where they have a delay into the retry set, unless they have a place.

        Returns:
            How many were put.
        """
        keys = self._keys
        used = [*keys.streams, keys.retry, keys.places, keys.parked, keys.doorbell]
        published = 0
        for chunk in _chunks(emails):
            args = [part for e in chunk for part in (int(e.lane), e.email_id, _ms(e.delay), e.hints, encode(e))]
            published += await self._run("publish", used, args)
        return published

    async def take(self, consumer: str, wish: Wish) -> Taken:
        """Take work for free slots, with the grants to send it; a sign of life, too."""
        keys = self._keys
        answer = await self._run(
            "take",
            [
                *(*keys.streams, keys.retry, keys.places, keys.parked, keys.grants, keys.dispatch, keys.doorbell),
                *(keys.consumers, keys.pauses, keys.domains, keys.failures, keys.refusals),
            ],
            [
                *(GROUP, consumer, ORPHANS, wish.slots, wish.requests_per_second, _ms(wish.claim_idle)),
                *(wish.batch_size, wish.batch_bytes, int(wish.suspect), wish.low_share),
                *(_ms(wish.probe_interval), _ms(wish.probe_patience), int(wish.accepted)),
            ],
        )
        outcome, wait_ms, repeats, requests, alive, probe, *weather, grants = answer
        return Taken(
            held=outcome == _HELD,
            wait=timedelta(milliseconds=wait_ms) if wait_ms else None,
            repeats=[email_id.decode("utf-8", "replace") for email_id in repeats],
            requests=[[_entry(entry) for entry in request] for request in requests],
            alive=frozenset(name.decode("utf-8", "replace") for name in alive if b"\0" not in name),
            weather=_weather(*weather),
            probe=int(probe),
            grants=tuple(Grant(int(number), timedelta(milliseconds=ms)) for number, ms in grants),
            pauses_missing=outcome == _PAUSES_MISSING,
        )

    async def reclaim(self, consumer: str, lane: Lane, *, idle: timedelta, start: str, most: int) -> tuple[str, int]:
        """Orphan entries whose consumer died; a sign of life, too.

        Args:
            consumer: Who does it.
            lane: The stream.
            idle: Since they were taken, and since their consumer gave a sign of life; longer than any attempt.
            start: Where an earlier call stopped; empty: from the first.
            most: Entries to look at.

        Returns:
            Where to go on, empty at the end, and how many were orphaned.
        """
        keys = [self._keys.stream(lane), self._keys.consumers, self._keys.doorbell, self._keys.dispatch]
        args = [GROUP, consumer, ORPHANS, _ms(idle), start or "-", most]
        next_start, moved = await self._run("reclaim", keys, args)
        return next_start.decode(), moved

    async def hand_back(self, consumer: str, entries: Sequence[tuple[Lane, str]], *, died: bool = False) -> int:
        """Give entries back that were not begun; how many were still the caller's.

        Args:
            consumer: Who gives.
            entries: Lane and entry id of each.
            died: It counts as the death of an owner.
        """
        given = 0
        for chunk in _chunks(entries):
            args = [GROUP, consumer, ORPHANS, int(died), *(part for lane, i in chunk for part in (int(lane), i))]
            given += await self._run("hand_back", [*self._keys.streams, self._keys.doorbell], args)
        return given

    async def own_pending(self, consumer: str) -> set[tuple[Lane, str]]:
        """Lane and entry id of what is pending for a consumer, at most 10,000 on each stream."""
        flat = await self._run("own_pending", self._keys.streams, [GROUP, consumer, 10_000])
        return {(Lane(lane), i.decode()) for lane, i in zip(flat[::2], flat[1::2], strict=True)}

    async def finish(self, consumer: str, emails: Sequence[Finished]) -> int:
        """Take emails off their streams; how many were still the caller's."""
        return await self._move(
            "finish",
            [self._keys.places, self._keys.retry],
            [GROUP, consumer],
            [(int(e.lane), e.entry_id, e.email_id, e.first_email_id) for e in emails],
        )

    async def finish_sends(self, emails: Sequence[tuple[str, str]]) -> None:
        """Forget sends, told as (email id, first email id of its send), in the retry set and the places."""
        for chunk in _chunks(emails):
            await self._run(
                "finish_sends", [self._keys.retry, self._keys.places], [part for pair in chunk for part in pair]
            )

    async def park(self, consumer: str, emails: Sequence[Parked]) -> int:
        """Move emails from their streams to the retry set; how many were still the caller's."""
        return await self._move(
            "park",
            [self._keys.retry, self._keys.places, self._keys.parked, self._keys.doorbell],
            [GROUP, consumer],
            [(int(e.lane), e.entry_id, e.email_id, _ms(e.delay), int(e.alone)) for e in emails],
        )

    async def park_sends(self, consumer: str, emails: Sequence[ParkedInSend], *, entitled: bool) -> None:
        """Give sends to be repeated their place in the retry set.

        Args:
            consumer: Who asks.
            emails: Of these sends.
            entitled: The caller holds their leases or has just reopened them: it sets their places and times. Else it
                found them in the log, and adds only what is missing.
        """
        await self._move(
            "park_sends",
            [self._keys.retry, self._keys.places, self._keys.doorbell],
            [GROUP, consumer, int(entitled)],
            [(e.first_email_id, _ms(e.delay), e.email_id, int(e.lane or 0), e.entry_id) for e in emails],
        )

    async def postpone(self, first_email_id: str, delay: timedelta) -> None:
        """Let a send that can't be repeated yet be due later."""
        await self._run("postpone", [self._keys.retry, self._keys.places], [first_email_id, _ms(delay)])

    async def cancel(self, email_ids: Sequence[str]) -> int:
        """Take emails that were cancelled out of Redis, where no consumer holds them; how many were taken out."""
        keys = self._keys
        removed = 0
        for chunk in _chunks(email_ids):
            removed += await self._run("cancel", [*keys.streams, keys.retry, keys.places, keys.parked], [GROUP, *chunk])
        return removed

    async def promote(self, *, most: int, passing_over: int) -> Promoted:
        """Move parked emails that have come due back onto their streams.

        Args:
            most: Members to look at.
            passing_over: How many due members to pass over: sends that an earlier call has seen.
        """
        keys = self._keys
        used = [*keys.streams, keys.retry, keys.places, keys.parked, keys.doorbell]
        moved, staying, next_due_ms = await self._run("promote", used, [most, passing_over])
        return Promoted(moved, staying, timedelta(milliseconds=next_due_ms) if next_due_ms >= 0 else None)

    async def bury(
        self,
        consumer: str,
        *,
        dead_letter_id: str,
        fields: dict[bytes, bytes],
        email_id: str = "",
        source: tuple[Lane, str] | None = None,
    ) -> None:
        """Show a dead letter in the DLQ, once.

        Args:
            consumer: Who asks.
            dead_letter_id: Id in PostgreSQL, where the letter already is.
            fields: Of the DLQ entry.
            email_id: Of its email; empty: it has none.
            source: Lane and id of the stream entry that ends with it; None: none.
        """
        keys = self._keys
        lane, entry_id = source if source is not None else (0, "")
        args: list[Any] = [GROUP, consumer, int(lane), entry_id, email_id, dead_letter_id]
        args += [part for pair in fields.items() for part in pair]
        await self._run("bury", [*keys.streams, keys.places, keys.dlq, keys.letters], args)

    async def unbury(self, dead_letter_ids: Sequence[str]) -> None:
        """Take dead letters out of the DLQ."""
        for chunk in _chunks(dead_letter_ids):
            await self._run("unbury", [self._keys.dlq, self._keys.letters], list(chunk))

    async def leave(self, consumer: str) -> bool:
        """Remove a consumer from the group if nothing is pending for it; whether it is gone."""
        name = consumer.encode("utf-8", "surrogateescape")
        return not await self._run("leave", [*self._keys.streams, self._keys.consumers], [GROUP, name])

    async def dead_consumers(self, silent_for: timedelta) -> set[str]:
        """Names of consumers that gave no sign of life for as long; what is no text in them is told as surrogates."""
        keys = [*self._keys.streams, self._keys.consumers]
        names = await self._run("dead_consumers", keys, [GROUP, ORPHANS, _ms(silent_for)])
        return {name.decode("utf-8", "surrogateescape") for name in names}

    async def _move(self, name: str, keys: list[str], head: list[Any], emails: Sequence[tuple[Any, ...]]) -> int:
        moved = 0
        for chunk in _chunks(emails):
            flat = [part for email in chunk for part in email]
            moved += await self._run(name, [*self._keys.streams, *keys], [*head, *flat])
        return moved


def _entry(answer: list[Any]) -> Entry:
    lane, entry_id, flat, deaths = answer
    return Entry(Lane(lane), entry_id.decode(), tuple(zip(flat[::2], flat[1::2], strict=True)), deaths)


def _weather(
    state: bytes, reason: bytes, refused_name: bytes, limit: bytes, domains: Sequence[bytes]
) -> DispatchWeather:
    return DispatchWeather(
        state=state.decode(),
        reason=reason.decode("utf-8", "replace"),
        refused_name=refused_name.decode("utf-8", "replace"),
        limit_known=limit != b"",
        provider_limit=read_limit(limit),
        domains=frozenset(domain.decode("utf-8", "replace") for domain in domains),
    )


def read_limit(text: bytes) -> float | None:
    """The provider's limit as Redis keeps it, in requests per second; None: it does not say."""
    try:
        limit = float(text or b"0")
    except ValueError:
        return None
    return limit if 0 < limit < math.inf else None


def _ms(duration: timedelta) -> int:
    return max(0, round(duration.total_seconds() * 1000))


def _chunks(items: Sequence[_T]) -> Iterable[Sequence[_T]]:
    return (items[i : i + _CHUNK] for i in range(0, len(items), _CHUNK))
