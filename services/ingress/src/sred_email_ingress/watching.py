"""Watches emails: what happens to them, from the log, at the speed of whoever reads."""

import asyncio
import struct
import uuid
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from datetime import timedelta

from sred_email_core.email_send_log.events import EventLog, EventPage, EventRecord, Position, WatchStart
from sred_email_core.errors import EmailNotFoundError, FieldViolation, InvalidRequestError, OverloadedError
from sred_email_ingress.event_bell import EventBell
from sred_email_ingress.tokens import TokenMaker

MAX_WATCHED = 1000
"""Emails that one call may name."""
MAX_WATCHES = 500
"""Calls that watch at once: each one holds a place among the calls that a process serves."""
_MOST_NAMED = 20_000
"""Emails that all calls together may name: they are looked for whenever anything happens."""
_PAGE = 200
"""Events in memory for one watcher: no more is read before its caller has taken them."""
_READERS = 3
"""Watchers that read at once; the other connections are for who sends."""
_RETRY_AFTER = timedelta(seconds=5)

_TOKENS = TokenMaker(b"resume")
_NUMBERS = struct.Struct(">qq")


@dataclass(frozen=True, slots=True)
class Watch:
    """A watch that has begun.

    Attributes:
        resume_token: Goes on from its beginning; empty: present states come first, which only a new watch tells.
        events: What happens, without an end, each with the token to go on after it. It raises EventsGoneError where
            those after the token are not kept any more, OverloadedError where too many watch by then, and
            LogUnavailableError when PostgreSQL does not answer.
    """

    resume_token: str
    events: AsyncGenerator[tuple[EventRecord, str]]


class EmailWatch:
    """Begins watches, and knows how many there are."""

    def __init__(self, event_log: EventLog, *, interval: timedelta) -> None:
        """Prepare.

        Args:
            event_log: What is read.
            interval: Between looks at it, while somebody watches.
        """
        self._log = event_log
        self._bell = EventBell(event_log, interval=interval)
        self._reading = asyncio.Semaphore(_READERS)
        self._watches = 0

    async def begin(self, email_ids: Sequence[str], resume_token: str) -> Watch:
        """Begin to watch; nothing that happens from then on is missed.

        Args:
            email_ids: As the caller wrote them; none: all emails.
            resume_token: Of the event to go on after; empty: from the present.

        Raises:
            InvalidRequestError: An id is no UUID, there are too many, or the token is none of ours.
            EmailNotFoundError: One of the emails does not exist.
            OverloadedError: Too many watch here.
            LogUnavailableError: PostgreSQL does not answer.
        """
        position = _read_token(resume_token)
        ids = _parse_ids(email_ids)
        self._check_room(ids)
        async with self._reading:
            start = await self._log.begin(ids)
        missing = [i for i in ids if i not in start.states]
        if missing:
            raise EmailNotFoundError(f"there is no email {missing[0]}")
        if position is not None:
            start = WatchStart(position, states={}, shown={})
        return Watch("" if start.states else write_token(start.position), self._events(ids or None, start))

    async def close(self) -> None:
        """Stop looking at the log."""
        await self._bell.close()

    def _check_room(self, email_ids: Sequence[uuid.UUID]) -> None:
        if self._watches >= MAX_WATCHES or self._bell.watched + len(email_ids) > _MOST_NAMED:
            raise OverloadedError("too many calls watch emails here: repeat the call", retry_after=_RETRY_AFTER)

    async def _page(self, after: Position, email_ids: Sequence[uuid.UUID] | None) -> EventPage:
        async with self._reading:
            return await self._log.page(after, size=_PAGE, email_ids=email_ids)

    async def _events(
        self, email_ids: Sequence[uuid.UUID] | None, start: WatchStart
    ) -> AsyncGenerator[tuple[EventRecord, str]]:
        self._check_room(email_ids or ())  # others that began at the same time may have taken it
        self._watches += 1
        try:
            for state in start.states.values():
                yield state, write_token(state.position)
            after = start.position
            with self._bell.waiting(email_ids) as waiter:
                while True:
                    page = await self._page(after, email_ids)
                    for event in page.events:
                        if event.position.sequence > start.shown.get(event.email_id, 0):
                            yield event, write_token(event.position)
                    after = page.after
                    if not page.more:
                        await waiter.wait()
        finally:
            self._watches -= 1


def write_token(position: Position) -> str:
    """The token that goes on after a position."""
    return _TOKENS.write(_NUMBERS.pack(*position))


def _read_token(token: str) -> Position | None:
    if not token:
        return None
    place = _TOKENS.read(token)
    if place is None or len(place) != _NUMBERS.size:
        violation = FieldViolation("resume_token", "must be one that an event of WatchEmails came with, as it was")
        raise InvalidRequestError([violation])
    return Position(*_NUMBERS.unpack(place))


def _parse_ids(texts: Sequence[str]) -> list[uuid.UUID]:
    if len(texts) > MAX_WATCHED:
        raise InvalidRequestError([FieldViolation("email_ids", f"must hold at most {MAX_WATCHED}; watch all, or less")])
    ids, violations = [], []
    for index, text in enumerate(texts):
        try:
            ids.append(uuid.UUID(text))
        except ValueError:
            violations.append(FieldViolation(f"email_ids[{index}]", "must be a UUID, as SendEmail returned it"))
    if violations:
        raise InvalidRequestError(violations[:50])
    return list(dict.fromkeys(ids))
