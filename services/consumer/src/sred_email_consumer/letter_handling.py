"""What operators do with dead letters besides sending them again: look at one, resolve, discard."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.operations import Selection, parse_ids
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.handled_letters import HandledLetterLog
from sred_email_core.email_send_log.records import DeadLetterRecord
from sred_email_core.errors import DeadLetterNotFoundError, FieldViolation, InvalidRequestError

MAX_DISCARD = 1000
"""Dead letters in one call of discard; the answer says how many remain."""
MAX_RESOLVE = 1000
"""Dead letters in one call of resolve, which has no answer that says how many remain."""
_PART = 200
_LONGEST_NOTE = 500


@dataclass(frozen=True, slots=True)
class Discarded:
    """Letters that are gone now, and how many are left to be asked for."""

    discarded: int
    remaining: int


class LetterHandling:
    """Ends letters in the log first; the DLQ shows them no more afterwards.

    QueueUnavailableError from a change says that the log has it, and that the DLQ follows with the reconciler.
    """

    def __init__(self, log: HandledLetterLog, letters: DeadLetterLog, service: DeadLetterService) -> None:
        self._log = log
        self._letters = letters
        self._service = service

    async def get(self, dead_letter_id: str) -> DeadLetterRecord:
        """One open dead letter.

        Raises:
            InvalidRequestError: That is no id.
            DeadLetterNotFoundError: There is none, or it was handled.
            LogUnavailableError: PostgreSQL does not answer.
        """
        try:
            parsed = uuid.UUID(dead_letter_id)
        except ValueError as e:
            raise InvalidRequestError([FieldViolation("dead_letter_id", "must be a dead letter id")]) from e
        letter = await self._log.get(parsed)
        if letter is None:
            raise DeadLetterNotFoundError
        return letter

    async def resolve(self, ids: Sequence[str], *, delivered: bool, note: str, deed: Deed | None = None) -> int:
        """Record what a person knows became of emails; how many letters were open.

        Args:
            ids: As callers wrote them; at least one.
            delivered: The recipients have them.
            note: How that is known.
            deed: What the audit says.

        Raises:
            InvalidRequestError: No ids or too many, one that is none, or a note that is too long or not printable;
                nothing was resolved.
            LogUnavailableError: PostgreSQL does not answer; repeating it resolves the rest.
            QueueUnavailableError: See the class.
        """
        violations = []
        if not ids or len(ids) > MAX_RESOLVE:
            violations.append(FieldViolation("ids", f"must be 1 to {MAX_RESOLVE} dead letter ids"))
        if len(note) > _LONGEST_NOTE or not all(c.isprintable() for c in note):
            violations.append(FieldViolation("note", f"must have at most {_LONGEST_NOTE} printable characters"))
        if violations:
            raise InvalidRequestError(violations)
        parsed, resolved = parse_ids(ids), 0
        for start in range(0, len(parsed), _PART):
            part = parsed[start : start + _PART]
            if delivered:
                closed = await self._log.resolve_delivered(part, note=note or None, deed=deed)
            else:
                closed = await self._log.give_up(part, "NOT_DELIVERED", note=note or None, deed=deed)
            await self._service.withdraw(closed)
            resolved += len(closed)
        return resolved

    async def discard(self, selection: Selection, *, limit: int, deed: Deed | None = None) -> Discarded:
        """Throw dead letters away, the oldest first, a bounded number in one call.

        Args:
            selection: Which.
            limit: The most; 0: as many as one call may.
            deed: What the audit says.

        Raises:
            InvalidRequestError: An id is none, or the limit is negative; nothing was discarded.
            LogUnavailableError: PostgreSQL does not answer; repeating it discards the rest.
            QueueUnavailableError: See the class.
        """
        if limit < 0:
            raise InvalidRequestError([FieldViolation("limit", "must be 0 or more")])
        limit = min(limit or MAX_DISCARD, MAX_DISCARD)
        if selection.ids is not None:
            ids = parse_ids(selection.ids)
            discarded = 0
            for start in range(0, min(limit, len(ids)), _PART):
                discarded += await self._discard(ids[start : min(start + _PART, limit)], deed)
            return Discarded(discarded, max(0, len(ids) - limit))
        discarded = 0
        while discarded < limit:
            page = await self._letters.select(selection.which, size=min(limit - discarded, _PART))
            if not page:
                return Discarded(discarded, 0)
            discarded += await self._discard([letter_id for _, letter_id in page], deed)
        _, remaining = await self._letters.count_selected(selection.which)
        return Discarded(discarded, remaining)

    async def _discard(self, ids: Sequence[uuid.UUID], deed: Deed | None) -> int:
        closed = await self._log.give_up(ids, "DISCARDED", deed=deed)
        await self._service.withdraw(closed)
        return len(closed)
