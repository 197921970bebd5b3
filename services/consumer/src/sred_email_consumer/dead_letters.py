"""Dead letters: the log holds them, the DLQ shows them."""

import hashlib
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import structlog
import uuid_utils.compat

from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.email_send_log.audit import Deed
from sred_email_core.email_send_log.dead_letters import DeadLetterLog
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import MalformedEntry, ReplayedEmail
from sred_email_core.logs import mask_addresses
from sred_email_core.queue.codec import QueuedEmail, encode_raw_entry
from sred_email_core.queue.keys import QueueKeys
from sred_email_core.queue.letters import letter_of_email, letter_of_entry
from sred_email_core.queue.scripts import Entry, Finished, ParkedInSend, QueueScripts

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Burial:
    """An email that has become a dead letter in the log.

    Attributes:
        dead_letter_id: Its id there.
        email: As it travelled.
        reason: Name of the DeadLetterReason.
        error: For people.
        attempts: That counted.
        entry_id: The stream entry that ends with it; empty: none.
    """

    dead_letter_id: str
    email: QueuedEmail
    reason: str
    error: str
    attempts: int
    entry_id: str = ""


class DeadLetterService:
    """Moves dead letters into the DLQ after the log, and out of it again after a replay."""

    def __init__(
        self,
        letters: DeadLetterLog,
        delivery_log: DeliveryLog,
        scripts: QueueScripts,
        metrics: ConsumerMetrics,
        consumer: str,
        keys: QueueKeys,
    ) -> None:
        self._letters = letters
        self._delivery_log = delivery_log
        self._scripts = scripts
        self._metrics = metrics
        self._consumer = consumer
        self._keys = keys

    async def show(self, burial: Burial) -> None:
        """Put a letter that is in the log into the DLQ, once, and take its email off its stream."""
        email = burial.email
        await self._scripts.bury(
            self._consumer,
            dead_letter_id=burial.dead_letter_id,
            email_id=email.email_id,
            source=(email.lane, burial.entry_id) if burial.entry_id else None,
            fields=letter_of_email(
                email,
                dead_letter_id=burial.dead_letter_id,
                reason=burial.reason,
                error=burial.error,
                attempts=burial.attempts,
            ),
        )
        self._metrics.dead_letters.labels(burial.reason).inc()
        log.warning(
            "email_dead",
            email_id=email.email_id,
            reason=burial.reason,
            attempt=burial.attempts,
            error=mask_addresses(burial.error),
        )

    async def keep_malformed(self, entry: Entry, error: str) -> None:
        """Keep an entry that is no email, whole: in the log first, then in the DLQ.

        An email that it names is not touched: if this was its entry, it is published again from the log.
        """
        stream = self._keys.stream(entry.lane)
        named = _email_id_of(entry)
        malformed = MalformedEntry(
            id=uuid_utils.compat.uuid7(),
            error=error,
            raw_entry=encode_raw_entry(stream, entry.entry_id, entry.pairs),
            fields_sha256=hashlib.sha256(encode_raw_entry("", "", entry.pairs)).digest(),
            stream=stream,
            entry_id=entry.entry_id,
            named_email_id=named,
        )
        dead_letter_id = await self._delivery_log.record_malformed(malformed)
        await self._show_entry(entry, dead_letter_id, "MALFORMED", error, named)

    async def keep_poison(self, entry: Entry) -> None:
        """Give up the email of an entry that its owners died with; nothing of it but its id is read."""
        named = _email_id_of(entry)
        error = f"{entry.deaths} consumers died while they had it"
        if named is None:
            await self.keep_malformed(entry, error)
            return
        email_id = str(named)
        letter = await self._delivery_log.record_poison(email_id, error)
        if letter is not None:
            await self._show_entry(entry, letter.id, letter.reason, error, named)
            return
        standing = (await self._delivery_log.get_standings([email_id])).get(email_id)
        if standing is not None and standing.first_of_open_send is not None:
            place = ParkedInSend(standing.first_of_open_send, email_id, standing.wait, entry.lane, entry.entry_id)
            await self._scripts.park_sends(self._consumer, [place], entitled=False)
        elif standing is not None and standing.dead_letter is not None:
            letter = standing.dead_letter
            await self._show_entry(entry, letter.id, letter.reason, letter.error, named)
        elif standing is None or standing.ended:
            await self._scripts.finish(self._consumer, [Finished(entry.lane, entry.entry_id, email_id)])
        else:  # it changed at this very moment: whoever takes the entry next, finds what it is now
            await self._scripts.hand_back(self._consumer, [(entry.lane, entry.entry_id)])

    async def withdraw(self, dead_letter_ids: Sequence[str]) -> None:
        """Take letters that were resolved in the log out of the DLQ."""
        await self._scripts.unbury(dead_letter_ids)

    async def _show_entry(
        self, entry: Entry, dead_letter_id: str, reason: str, error: str, email_id: uuid.UUID | None
    ) -> None:
        """Put a letter whose entry could not be used into the DLQ, with the entry as it is."""
        stream = self._keys.stream(entry.lane)
        raw_entry = encode_raw_entry(stream, entry.entry_id, entry.pairs)
        await self._scripts.bury(
            self._consumer,
            dead_letter_id=dead_letter_id,
            email_id="" if email_id is None else str(email_id),
            source=(entry.lane, entry.entry_id),
            fields=letter_of_entry(raw_entry, dead_letter_id=dead_letter_id, reason=reason, error=error),
        )
        self._metrics.dead_letters.labels(reason).inc()
        log.warning(
            "entry_given_up",
            stream=stream,
            entry_id=entry.entry_id,
            email_id=None if email_id is None else str(email_id),
            reason=reason,
            error=mask_addresses(error),
        )

    async def replay(
        self,
        ids: Sequence[uuid.UUID],
        *,
        include_outcome_unknown: bool,
        include_poison: bool,
        deed: Deed | None = None,
    ) -> list[ReplayedEmail]:
        """Send the emails of dead letters again; those that may not be are left alone.

        Returns:
            The emails that are under way again.
        """
        replayed = await self._letters.replay(
            ids, include_outcome_unknown=include_outcome_unknown, include_poison=include_poison, deed=deed
        )
        if replayed:
            self._metrics.replayed.inc(len(replayed))
            log.info("emails_replayed", email_ids=[email.email_id for email in replayed])
        await self.withdraw([email.dead_letter_id for email in replayed if email.dead_letter_id is not None])
        anew = [_queued(email) for email in replayed if not email.repeats]
        await self._scripts.publish(anew)
        await self._scripts.park_sends(self._consumer, _placed_in_sends(replayed), entitled=True)
        return replayed


def _email_id_of(entry: Entry) -> uuid.UUID | None:
    """The email that an entry names, whatever else is wrong with it."""
    try:
        return uuid.UUID(entry.fields.get(b"email_id", b"").decode("ascii"))
    except ValueError:
        return None


def _queued(email: ReplayedEmail) -> QueuedEmail:
    return QueuedEmail.of_content(
        email_id=email.email_id,
        kind=email.kind,
        priority=email.priority,
        accepted_at=email.created_at,
        expire_at=email.expire_at,
        content=email.message,
        alone=email.alone,
        traceparent=email.traceparent,
    )


def _placed_in_sends(replayed: Sequence[ReplayedEmail]) -> list[ParkedInSend]:
    """The places of emails that are repeated; they come in the order of their sends."""
    first: dict[str, str] = {}
    placed = []
    for email in replayed:
        if email.repeats and email.send_id is not None:
            first_email_id = first.setdefault(email.send_id, email.email_id)
            placed.append(ParkedInSend(first_email_id, email.email_id, delay=timedelta()))
    return placed
