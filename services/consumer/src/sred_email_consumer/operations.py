"""What operators may ask and do: the queue at a glance, dead letters."""

import base64
import json
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.overview import Glance, Overview
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.records import DeadLetterRecord, LetterGroup, LetterSelection
from sred_email_core.errors import FieldViolation, InvalidRequestError

DEFAULT_PAGE = 100
MAX_PAGE = 1000
_MAX_TOKEN = 3000
MAX_REPLAY = 1000
"""Dead letters in one call of replay; the answer says how many remain."""
MAX_GROUPS = 100
MAX_COUNTED = 100_000
"""Letters of one group that are counted."""
_PART = 250


@dataclass(frozen=True, slots=True)
class Selection:
    """Which dead letters.

    Attributes:
        ids: These, as callers wrote them; None: not by id.
        which: Those that it says, whatever a replay takes; for ids it says nothing.
    """

    ids: tuple[str, ...] | None = None
    which: LetterSelection = field(default_factory=LetterSelection)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What came of a replay: emails under way again, letters that may not be, and how many are left to be asked for."""

    replayed: int
    skipped: int
    remaining: int


class EmailOperations:
    """Operators' view of the queue and of the dead letters."""

    def __init__(self, overview: Overview, letters: DeadLetterLog, service: DeadLetterService) -> None:
        self._overview = overview
        self._letters = letters
        self._service = service

    async def stats(self) -> Glance:
        """Everything at a glance."""
        return await self._overview.look()

    async def page(
        self, *, size: int, token: str, selection: LetterSelection, kind: str | None
    ) -> tuple[list[DeadLetterRecord], str]:
        """A page of dead letters, the latest first, and the token of the next page; empty: this is the last one.

        Raises:
            InvalidRequestError: The token is not one of ours for these filters, the size is negative, or a group has no
                reason.
        """
        if size < 0:
            raise InvalidRequestError([FieldViolation("page_size", "must be 0 or more")])
        if selection.error_group is not None and selection.reason is None:
            raise InvalidRequestError([FieldViolation("reason", "is required with an error_group")])
        size = min(size or DEFAULT_PAGE, MAX_PAGE)
        filters = [selection.reason, selection.error_group, kind]
        found = await self._letters.latest(
            size=size + 1, before=_read_token(token, filters), selection=selection, kind=kind
        )
        page = found[:size]
        return page, _write_token(page[-1], filters) if len(found) > size else ""

    async def groups(self) -> tuple[list[LetterGroup], bool]:
        """Dead letters in groups, the largest first, and whether there are more groups."""
        found = await self._letters.groups(most=MAX_GROUPS + 1, most_counted=MAX_COUNTED)
        return found[:MAX_GROUPS], len(found) > MAX_GROUPS

    async def replay(
        self, selection: Selection, *, include_outcome_unknown: bool, limit: int, deed: Deed | None = None
    ) -> Replayed:
        """Send dead letters again, a bounded number in one call.

        Args:
            selection: Which.
            include_outcome_unknown: Also those that the recipient may have got already.
            limit: The most; 0: as many as one call may.
            deed: What the audit says.

        Raises:
            InvalidRequestError: An id is no dead letter id, or there are too many.
        """
        if limit < 0:
            raise InvalidRequestError([FieldViolation("limit", "must be 0 or more")])
        limit = min(limit or MAX_REPLAY, MAX_REPLAY)
        if selection.ids is not None:
            ids = parse_ids(selection.ids)
            chosen = ids[:limit]
            replayed = await self._replay(
                chosen, include_outcome_unknown=include_outcome_unknown, by_id=True, deed=deed
            )
            return Replayed(replayed, max(0, len(chosen) - replayed), len(ids) - len(chosen))
        which = replace(selection.which, replay=include_outcome_unknown)
        return await self._replay_all(which, include_outcome_unknown=include_outcome_unknown, limit=limit, deed=deed)

    async def _replay_all(
        self, which: LetterSelection, *, include_outcome_unknown: bool, limit: int, deed: Deed | None
    ) -> Replayed:
        """Go through the letters until ``limit`` of them were replayed or none is left to try."""
        replayed = passed = 0
        after: tuple[datetime, uuid.UUID] | None = None
        page: list[tuple[datetime, uuid.UUID]] = []
        while replayed < limit:
            page = await self._letters.select(which, size=min(limit - replayed, _PART), after=after)
            if not page:
                break
            after, ids = page[-1], [letter_id for _, letter_id in page]
            done = await self._replay(ids, include_outcome_unknown=include_outcome_unknown, by_id=False, deed=deed)
            replayed += done
            passed += max(0, len(ids) - done)
        there, selected = await self._letters.count_selected(which)
        remaining = max(0, selected - passed) if page else 0
        return Replayed(replayed, there - remaining, remaining)

    async def _replay(
        self, ids: Sequence[uuid.UUID], *, include_outcome_unknown: bool, by_id: bool, deed: Deed | None
    ) -> int:
        replayed = await self._service.replay(
            ids, include_outcome_unknown=include_outcome_unknown, include_poison=by_id, deed=deed
        )
        return len(replayed)


def parse_ids(texts: Sequence[str]) -> list[uuid.UUID]:
    """Ids of dead letters, each once, in order.

    Raises:
        InvalidRequestError: Some are none; the first 50 are named.
    """
    parsed, violations = [], []
    for index, text in enumerate(texts):
        try:
            parsed.append(uuid.UUID(text))
        except ValueError:
            violations.append(FieldViolation(f"ids.values[{index}]", "must be a dead letter id"))
    if violations:
        raise InvalidRequestError(violations[:50])
    return list(dict.fromkeys(parsed))


def _write_token(last: DeadLetterRecord, filters: Sequence[str | None]) -> str:
    parts = [last.failed_at.isoformat(), str(last.id), *filters]
    return base64.urlsafe_b64encode(json.dumps(parts).encode()).decode()


def _read_token(token: str, wanted: Sequence[str | None]) -> tuple[datetime, uuid.UUID] | None:
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError("longer than any of ours")  # noqa: TRY301
        failed_at, last_id, *filters = json.loads(base64.urlsafe_b64decode(token.encode("ascii")))
        if filters != wanted:
            raise ValueError("of another list")  # noqa: TRY301
        return datetime.fromisoformat(failed_at).astimezone(UTC), uuid.UUID(last_id)
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as e:
        violation = FieldViolation("page_token", "must be the next_page_token of an earlier answer for these filters")
        raise InvalidRequestError([violation]) from e
