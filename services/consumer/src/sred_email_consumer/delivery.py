"""From taken work to a recorded outcome: claim, post, record, move. Always in this order."""

import asyncio
import random
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TypeVar

import structlog

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.dead_letters import Burial, DeadLetterService
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.outcome import Accepted, Failure
from sred_email_consumer.resend import Request, ResendClient
from sred_email_consumer.retry_policy import Decision, Hold, RetryPolicy
from sred_email_consumer.retry_service import RedisEmailRetryService
from sred_email_consumer.serializer import (
    NEWEST_VERSION,
    SINGLE_ENDPOINT,
    OutgoingEmail,
    UnknownSerializerError,
    body_sha256,
    render,
)
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import (
    AcceptedEmail,
    Claim,
    FailedSend,
    FailureAction,
    NewSend,
    Refusal,
    Repeat,
    RepeatState,
    SendShape,
)
from sred_email_core.errors import MalformedEntryError, RetryLaterError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.logs import mask_addresses
from sred_email_core.queue.codec import QueuedEmail, decode
from sred_email_core.queue.keys import Lane
from sred_email_core.queue.scripts import Entry, Finished, Parked, ParkedInSend, QueueScripts

log = structlog.get_logger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Passenger:
    """An email of a send, and where it came from.

    Attributes:
        email: With its content.
        entry_id: The stream entry it was taken from; empty: it is repeated within its send.
    """

    email: QueuedEmail
    entry_id: str = ""


@dataclass(frozen=True, slots=True)
class ClaimedSend:
    """A send that this process may post.

    Attributes:
        claim: The lease on it.
        claimed_at_s: When the lease was asked for, on the lease clock.
        passengers: Its emails, in order.
        shape: What shaped its body.
        body: Its bytes.
    """

    claim: Claim
    claimed_at_s: float
    passengers: tuple[Passenger, ...]
    shape: SendShape
    body: bytes


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What delivery needs to know.

    Attributes:
        lease: How long a claim keeps others from a send.
        attempt: The longest that one request takes.
        redirect_to: Where all emails go instead; None: to their recipients.
    """

    lease: timedelta
    attempt: timedelta
    redirect_to: str | None


class EmailDelivery:
    """Delivers one send at a time per call; claims and records of concurrent calls share their statements.

    Nothing here gives up while PostgreSQL or Redis is away: an outcome that is known is recorded when they are back. A
    process that dies meanwhile leaves an open send, which is repeated with the same key and the same bytes.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root names each
        self,
        delivery_log: DeliveryLog,
        retries: RedisEmailRetryService,
        dead_letters: DeadLetterService,
        scripts: QueueScripts,
        resend: ResendClient,
        policy: RetryPolicy,
        settings: DeliverySettings,
        metrics: ConsumerMetrics,
    ) -> None:
        self._log = delivery_log
        self._retries = retries
        self._dead_letters = dead_letters
        self._scripts = scripts
        self._resend = resend
        self._policy = policy
        self._settings = settings
        self._metrics = metrics
        self._claims: GroupCommit[NewSend, Claim | dict[str, Refusal]] = GroupCommit(
            delivery_log.claim, max_items=100, max_groups=2
        )
        self._accepted: GroupCommit[tuple[AcceptedEmail, ...], list[str]] = GroupCommit(
            self._record_accepted, max_items=500, max_groups=2
        )

    async def deliver_entry(self, entry: Entry) -> None:
        """Deliver the email of a stream entry, or decide what else becomes of it."""
        try:
            email = decode(entry.fields, entry.lane)
        except MalformedEntryError as e:
            error = str(e)
            await _persist(lambda: self._dead_letters.keep_malformed(entry, error))
            return
        if email.content is None:
            messages = await _persist(lambda: self._log.get_messages([email.email_id]))
            message = messages.get(email.email_id)
            if message is None:  # it has ended, or never was
                await self._finish(email, entry.entry_id)
                return
            email = replace(email, content=EmailContent.FromString(message))
        await self._deliver_new((Passenger(email, entry.entry_id),))

    async def deliver_repeat(self, first_email_id: str) -> None:
        """Repeat a send that is due, with the same key and the same bytes."""
        claimed_at_s = lease_clock()
        (repeat,) = await _persist(lambda: self._log.claim_repeats([first_email_id]))
        if repeat.state is RepeatState.LEASED:
            return  # it is due again when that lease may have ended
        if repeat.state is RepeatState.GONE or repeat.claim is None or repeat.shape is None:
            await _persist(lambda: self._retries.finish_sends([(first_email_id, first_email_id)]))
            return
        passengers = tuple(
            Passenger(
                QueuedEmail(
                    email_id=member.email_id,
                    kind=member.kind,
                    lane=Lane[member.priority],
                    accepted_at=member.created_at,
                    expire_at=member.expire_at,
                    content=EmailContent.FromString(member.message or b""),
                    alone=False,
                    size_bytes=len(member.message or b""),
                )
            )
            for member in repeat.members
        )
        send = ClaimedSend(repeat.claim, claimed_at_s, passengers, repeat.shape, b"")
        if repeat.state is RepeatState.PAST_HORIZON:
            await self._give_up(send, "its horizon passed before an answer came")
            return
        body = _same_body(repeat, passengers)
        if body is None:
            await self._give_up(send, "its body can't be made again with the same bytes")
            return
        await self._post(replace(send, body=body))

    async def _deliver_new(self, passengers: tuple[Passenger, ...]) -> None:
        shape = SendShape(SINGLE_ENDPOINT, NEWEST_VERSION, self._settings.redirect_to)
        body = render([_outgoing(p) for p in passengers], shape)
        new = NewSend(tuple(p.email.email_id for p in passengers), shape, body_sha256(body))
        claimed_at_s = lease_clock()
        claim = await _persist(lambda: self._claims.submit(new))
        if isinstance(claim, dict):
            for passenger in passengers:
                await self._turn_away(passenger, claim.get(passenger.email.email_id))
            return
        await self._post(ClaimedSend(claim, claimed_at_s, passengers, shape, body))

    async def _turn_away(self, passenger: Passenger, refusal: Refusal | None) -> None:
        """Deal with an email that could not be claimed: it has ended, or another send has it."""
        email = passenger.email
        if refusal is None or refusal.status is None:
            log.warning("email_unknown", email_id=email.email_id, meaning="an entry whose email is not in the log")
            await self._finish(email, passenger.entry_id)
        elif refusal.ended:
            await self._finish(email, passenger.entry_id)
        elif refusal.first_of_open_send is not None:
            first = refusal.first_of_open_send
            placed = ParkedInSend(first, email.email_id, refusal.lease_left, email.lane, passenger.entry_id)
            await _persist(lambda: self._retries.park_sends([placed]))
        else:
            # Open, and claimed by somebody whose send was not visible yet. The entry stays pending and comes up again:
            # the entry of an open email is never thrown away.
            log.info("email_contended", email_id=email.email_id)

    async def _post(self, send: ClaimedSend) -> None:
        lease_left = self._settings.lease.total_seconds() - (lease_clock() - send.claimed_at_s)
        if lease_left <= self._settings.attempt.total_seconds():
            # We were stopped since the claim; the answer would come when the send may be another's. Its entry or its
            # place in the retry set comes up again by itself.
            await _persist(lambda: self._log.undo_claims([send.claim]))
            log.warning("claim_undone", send_id=send.claim.send_id, reason="too little of the lease is left")
            return
        request = Request(send.shape.endpoint, send.claim.send_id, send.body, len(send.passengers))
        with self._metrics.request_seconds.time():
            answer = await self._resend.post(request)
        if isinstance(answer, Accepted):
            self._metrics.requests.labels("accepted").inc()
            await self._settle_accepted(send, answer)
        else:
            self._metrics.requests.labels(answer.kind.name.lower()).inc()
            await self._settle_failed(send, answer)

    async def _settle_accepted(self, send: ClaimedSend, answer: Accepted) -> None:
        accepted = tuple(
            AcceptedEmail(send.passengers[position].email.email_id, message_id, send.claim.send_id)
            for position, message_id in answer.message_ids.items()
        )
        letters = await _persist(lambda: self._accepted.submit(accepted))
        if letters:
            await _persist(lambda: self._scripts.unbury(letters))
        self._metrics.sent.inc(len(accepted))
        for email in accepted:
            log.info("email_sent", email_id=email.email_id, provider_message_id=email.provider_message_id)
        await self._leave_queue(send)

    async def _settle_failed(self, send: ClaimedSend, failure: Failure) -> None:
        decision = self._policy.decide(
            failure,
            attempt=send.claim.attempts + 1,
            maybe_accepted=send.claim.maybe_accepted_before,
            jitter=random.random(),  # noqa: S311 - spreads load, keeps no secret
        )
        await self._settle(send, failure.error, decision)
        if decision.hold is not None:
            hold = decision.hold
            await _persist(lambda: self._hold(hold))

    async def _give_up(self, send: ClaimedSend, error: str) -> None:
        # Nothing was posted under this claim: "refused" takes back that the claim counted it as begun.
        decision = Decision(FailureAction.BURY, refused=True, counted=False, reason="OUTCOME_UNKNOWN")
        await self._settle(send, error, decision)

    async def _settle(self, send: ClaimedSend, error: str, decision: Decision) -> None:
        failed = FailedSend(
            claim=send.claim,
            refused=decision.refused,
            counted=decision.counted,
            action=decision.action,
            error=error,
            delay=decision.delay,
            reason=decision.reason,
            key_spent=decision.key_spent,
        )
        (letters,) = await _persist(lambda: self._log.record_failures([failed]))
        if letters is None:
            log.warning("send_lost", send_id=send.claim.send_id, meaning="another owner has taken it over")
            return
        log.info(
            "attempt_failed" if decision.counted else "attempt_postponed",
            send_id=send.claim.send_id,
            email_ids=[p.email.email_id for p in send.passengers],
            action=decision.action.value,
            error=mask_addresses(error),
        )
        if decision.action is FailureAction.RETRY:
            await self._park_send(send, decision.delay)
        elif decision.action is FailureAction.RELEASE:
            await self._park(send, decision.delay)
        else:
            await self._bury(send, letters, decision, error)

    async def _park_send(self, send: ClaimedSend, delay: timedelta) -> None:
        first = send.passengers[0].email.email_id
        placed = [
            ParkedInSend(first, p.email.email_id, delay, p.email.lane if p.entry_id else None, p.entry_id)
            for p in send.passengers
        ]
        await _persist(lambda: self._retries.park_sends(placed))

    async def _park(self, send: ClaimedSend, delay: timedelta) -> None:
        parked = [Parked(p.email.lane, p.entry_id, p.email.email_id, delay) for p in send.passengers]
        await _persist(lambda: self._retries.park(parked))

    async def _bury(self, send: ClaimedSend, letters: dict[str, str | None], decision: Decision, error: str) -> None:
        for passenger in send.passengers:
            email = passenger.email
            letter = letters.get(email.email_id)
            if letter is not None:
                burial = Burial(
                    dead_letter_id=letter,
                    email=email,
                    reason=decision.reason or "",
                    error=error,
                    attempts=send.claim.attempts + decision.counted,
                    entry_id=passenger.entry_id,
                )
                await _persist(lambda burial=burial: self._dead_letters.show(burial))  # type: ignore[misc]
        await self._leave_queue(send)

    async def _leave_queue(self, send: ClaimedSend) -> None:
        """Take the emails of a send that needs nothing more out of Redis."""
        first = send.passengers[0].email.email_id
        repeated = [(p.email.email_id, first) for p in send.passengers if not p.entry_id]
        if repeated:
            await _persist(lambda: self._retries.finish_sends(repeated))
        for passenger in send.passengers:
            if passenger.entry_id:
                await self._finish(passenger.email, passenger.entry_id)

    async def _finish(self, email: QueuedEmail, entry_id: str) -> None:
        finished = Finished(email.lane, entry_id, email.email_id)
        await _persist(lambda: self._retries.finish(finished))

    async def _hold(self, hold: Hold) -> None:
        await self._scripts.hold(hold.state, hold.reason, hold.duration)
        if hold.state != "RUNNING":
            log.warning(
                "delivery_held",
                state=hold.state,
                reason=mask_addresses(hold.reason),
                seconds=hold.duration.total_seconds(),
            )

    async def _record_accepted(self, sends: Sequence[tuple[AcceptedEmail, ...]]) -> list[list[str]]:
        """Record whole sends, many in one statement; for each the dead letters that it resolved."""
        letters = await self._log.record_accepted([email for send in sends for email in send])
        return [[letters[email.email_id] for email in send if email.email_id in letters] for send in sends]


def lease_clock() -> float:
    """Seconds on a clock that goes on while the process, or its machine, is stopped."""
    clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
    return time.clock_gettime(clock)


def _outgoing(passenger: Passenger) -> OutgoingEmail:
    email = passenger.email
    return OutgoingEmail(email.email_id, email.kind, email.content or EmailContent())


def _same_body(repeat: Repeat, passengers: Sequence[Passenger]) -> bytes | None:
    """The body of a send, made again; None: it would have other bytes than the first time."""
    if repeat.shape is None or any(member.message is None for member in repeat.members):
        return None
    try:
        body = render([_outgoing(p) for p in passengers], repeat.shape)
    except UnknownSerializerError:
        return None
    return body if body_sha256(body) == repeat.body_sha256 else None


async def _persist(operation: Callable[[], Awaitable[T]]) -> T:
    """Carry out a step whose repetition is safe, however long PostgreSQL or Redis is away."""
    delay_s = 0.05
    while True:
        try:
            return await operation()
        except RetryLaterError as e:
            log.debug("step_postponed", reason=str(e))
            await asyncio.sleep(delay_s * (0.5 + random.random()))  # noqa: S311 - spreads load, keeps no secret
            delay_s = min(delay_s * 2, 1.0)
