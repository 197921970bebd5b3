"""From an answer to its record in the log, and from the log to the places in Redis. Always in this order."""

import asyncio
import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

import structlog

from sred_email_consumer.dead_letters import Burial, DeadLetterService
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.outcome import Accepted, Failure, FailureKind
from sred_email_consumer.retry_policy import Decision, RetryPolicy
from sred_email_consumer.retry_service import RedisEmailRetryService
from sred_email_consumer.sends import ClaimedSend, Passenger, persist
from sred_email_consumer.serializer import BATCH_ENDPOINT
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import (
    AcceptedEmail,
    AnsweredSend,
    FailedSend,
    FailureAction,
    RefusedEmail,
    Standing,
)
from sred_email_core.group_commit import GroupCommit
from sred_email_core.logs import mask_addresses
from sred_email_core.queue.scripts import Finished, Parked, ParkedInSend

log = structlog.get_logger(__name__)

_CONTENDED_PAUSE_S = 0.5
_UPGRADE_PAUSE = timedelta(seconds=15)
"""Between looks at a send that this version can't repeat."""


class Settlement:
    """Records what came of a send, and moves its emails accordingly.

    Nothing here gives up while PostgreSQL or Redis is away: an outcome that is known is recorded when they are back. A
    process that dies meanwhile leaves an open send, which is repeated with the same key and the same bytes.
    """

    def __init__(
        self,
        delivery_log: DeliveryLog,
        retries: RedisEmailRetryService,
        dead_letters: DeadLetterService,
        policy: RetryPolicy,
        weather: ProviderWeather,
        metrics: ConsumerMetrics,
    ) -> None:
        self._weather = weather
        self._log = delivery_log
        self._retries = retries
        self._dead_letters = dead_letters
        self._policy = policy
        self._metrics = metrics
        self._answers: GroupCommit[AnsweredSend, list[str]] = GroupCommit(
            self._record_answers, max_items=100, max_groups=2
        )

    async def accepted(self, send: ClaimedSend, answer: Accepted) -> None:
        """A 200: what it accepted is SUCCESS, what it refused within a batch goes alone, to learn its real answer."""
        news = self._weather.accepted(send, answer)
        told = asyncio.ensure_future(news) if news else None
        ids = [p.email.email_id for p in send.passengers]
        answered = AnsweredSend(
            send.claim.send_id,
            tuple(AcceptedEmail(ids[position], message_id) for position, message_id in answer.message_ids.items()),
            tuple(RefusedEmail(ids[position], error) for position, error in answer.errors.items()),
        )
        letters = await persist(lambda: self._answers.submit(answered))
        if letters:
            await persist(lambda: self._dead_letters.withdraw(letters))
        self._metrics.sent.inc(len(answered.accepted))
        # One line a send: the log table says of each email which message it became.
        log.info(
            "emails_sent",
            send_id=send.claim.send_id,
            email_ids=[e.email_id for e in answered.accepted],
            attempt=send.claim.attempts + 1,
        )
        if answered.refused:
            refused = [e.email_id for e in answered.refused]
            self._metrics.waits.labels("refused_in_batch").inc(len(refused))
            log.info("emails_refused_in_batch", send_id=send.claim.send_id, email_ids=refused)
        await self._leave_queue(send, [send.passengers[position] for position in answer.message_ids])
        if answer.errors:
            await self._release(send, [send.passengers[p] for p in answer.errors], timedelta(), alone=True)
        if told:
            await told

    async def failed(self, send: ClaimedSend, failure: Failure) -> None:
        """Another answer, or none."""
        batch = send.shape.endpoint == BATCH_ENDPOINT
        decision = self._policy.decide(
            failure,
            attempt=send.claim.attempts + 1,
            maybe_accepted=send.claim.maybe_accepted_before,
            batch=batch,
            jitter=random.random(),  # noqa: S311 - spreads load, keeps no secret
            outage=await self._weather.failed(send, failure),
            stopped_by=self._weather.stopped_by(send),
        )
        steps = [self._settle(send, failure.error, decision, failure.kind.name.lower())]
        hold = decision.hold
        if hold is not None:  # at once: every other slot, here and elsewhere, is about to meet the same
            steps.append(persist(lambda: self._weather.stop(send.first_email_id, hold)))
        elif failure.kind in (FailureKind.REJECTED, FailureKind.DOMAIN_REFUSED) and not batch:
            steps.append(persist(lambda: self._weather.refused(send, failure)))
        await asyncio.gather(*steps)

    async def give_up(self, send: ClaimedSend, error: str) -> None:
        """No request any more for a send that may have been accepted: its emails become dead letters."""
        # Nothing was posted under this claim: "refused" takes back that the claim counted it as begun.
        decision = Decision(FailureAction.BURY, refused=True, counted=False, reason="OUTCOME_UNKNOWN")
        await self._settle(send, error, decision)

    async def leave_to_newer(self, send: ClaimedSend) -> None:
        """No request from here: a newer version made the send, and its consumers, or this one upgraded, repeat it.

        One that was certainly refused is dissolved, and its emails go anew. The horizon ends the wait.
        """
        decision = Decision(FailureAction.RELEASE, refused=True, counted=False, delay=_UPGRADE_PAUSE)
        error = f"waits for a consumer that knows serializer {send.shape.serializer_version}"
        await self._settle(send, error, decision)

    async def expire(self, send: ClaimedSend) -> None:
        """No request any more for a send whose one email has expired."""
        decision = Decision(FailureAction.EXPIRE, refused=True, counted=False)
        error = "expired before an answer came; an earlier attempt may have been accepted"
        await self._settle(send, error, decision)

    async def suppressed(self, passengers: Sequence[Passenger]) -> None:
        """No request for emails of whose recipients in "to" none may get email."""
        ids = [p.email.email_id for p in passengers]
        ended = await persist(lambda: self._log.record_suppressed(ids))
        self._metrics.suppressed.inc(len(ended))
        if ended:
            log.info("emails_suppressed", email_ids=sorted(ended))
        await asyncio.gather(*(self._leave(p) for p in passengers if p.email.email_id in ended))
        others = [p for p in passengers if p.email.email_id not in ended]
        if others:
            await self.put_right(others)

    async def put_right(self, passengers: Sequence[Passenger]) -> None:
        """Bring the places of emails in Redis into line with where the log says they stand."""
        ids = [p.email.email_id for p in passengers]
        standings = await persist(lambda: self._log.get_standings(ids))
        await asyncio.gather(*(self.put_one_right(p, standings.get(p.email.email_id)) for p in passengers))

    async def put_one_right(self, passenger: Passenger, standing: Standing | None) -> None:
        """The same for one email, where it is known how it stands."""
        email = passenger.email
        if standing is None or standing.status is None:
            log.warning("email_unknown", email_id=email.email_id, meaning="an entry whose email is not in the log")
            await self._leave(passenger)
        elif standing.ended:
            if standing.dead_letter is not None:
                letter = standing.dead_letter
                burial = Burial(letter.id, email, letter.reason, letter.error, standing.attempts, passenger.entry_id)
                await persist(lambda: self._dead_letters.show(burial))
            await self._leave(passenger)
        elif standing.first_of_open_send is not None:
            lane = email.lane if passenger.entry_id else None
            first = standing.first_of_open_send
            placed = ParkedInSend(first, email.email_id, standing.wait, lane, passenger.entry_id)
            await persist(lambda: self._retries.park_sends([placed], entitled=False))
        elif standing.expired and await self._expired(email.email_id):
            await self._leave(passenger)
        elif standing.wait > timedelta():
            await self._release_one(passenger, standing.wait, alone=False)
        else:
            # Open, and changed by somebody at this very moment. The entry of an open email is never thrown away.
            log.info("email_contended", email_id=email.email_id)
            await asyncio.sleep(_CONTENDED_PAUSE_S)
            if passenger.entry_id:
                await persist(lambda: self._retries.hand_back([(email.lane, passenger.entry_id)]))

    async def _expired(self, email_id: str) -> bool:
        """End an email that has expired; whether that could be done."""
        ended = await persist(lambda: self._log.record_expired([email_id]))
        if ended:
            self._metrics.expired.inc()
            log.info("email_expired", email_id=email_id)
        return bool(ended)

    async def _settle(self, send: ClaimedSend, error: str, decision: Decision, cause: str = "") -> None:
        failed = FailedSend(
            claim=send.claim,
            refused=decision.refused,
            counted=decision.counted,
            action=decision.action,
            error=error,
            delay=decision.delay,
            reason=decision.reason,
            key_spent=decision.key_spent,
            alone=decision.alone,
        )
        (recorded,) = await persist(lambda: self._log.record_failures([failed]))
        if recorded is None:
            log.warning("send_lost", send_id=send.claim.send_id, meaning="another owner has it, or it is settled")
            await self.put_right(send.passengers)
            return
        log.info(
            "attempt_failed" if decision.counted else "attempt_postponed",
            send_id=send.claim.send_id,
            email_ids=[p.email.email_id for p in send.passengers],
            action=recorded.action.value,
            attempt=send.claim.attempts + 1,
            reason=cause or decision.reason,
            error=mask_addresses(error),
        )
        if recorded.action in (FailureAction.RETRY, FailureAction.RELEASE):
            self._metrics.waits.labels(cause).inc(len(send.passengers))
        if recorded.action is FailureAction.EXPIRE:
            self._metrics.expired.inc(len(send.passengers))
        if recorded.action is FailureAction.RETRY:
            await self._park_send(send, decision.delay)
        elif recorded.action is FailureAction.RELEASE:
            await self._release(send, send.passengers, decision.delay, alone=decision.alone)
        else:
            await self._bury(send, recorded.letters, decision, error)

    async def _park_send(self, send: ClaimedSend, delay: timedelta) -> None:
        first = send.first_email_id
        placed = [
            ParkedInSend(first, p.email.email_id, delay, p.email.lane if p.entry_id else None, p.entry_id)
            for p in send.passengers
        ]
        await persist(lambda: self._retries.park_sends(placed, entitled=True))

    async def _release(
        self, send: ClaimedSend, passengers: Sequence[Passenger], delay: timedelta, *, alone: bool
    ) -> None:
        """Let emails wait, each for itself."""
        first = send.first_email_id
        repeated = [(p.email.email_id, first) for p in passengers if not p.entry_id]
        if repeated:
            await persist(lambda: self._retries.finish_sends(repeated))
        await asyncio.gather(*(self._release_one(p, delay, alone=alone) for p in passengers))

    async def _release_one(self, passenger: Passenger, delay: timedelta, *, alone: bool) -> None:
        email = passenger.email
        if passenger.entry_id:
            parked = Parked(email.lane, passenger.entry_id, email.email_id, delay, alone)
            await persist(lambda: self._retries.park(parked))
        else:
            released = replace(email, delay=delay, alone=email.alone or alone)
            await persist(lambda: self._retries.publish([released]))

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
                await persist(lambda burial=burial: self._dead_letters.show(burial))  # type: ignore[misc]
        await self._leave_queue(send, send.passengers)

    async def _leave_queue(self, send: ClaimedSend, passengers: Sequence[Passenger]) -> None:
        """Take emails that need nothing more out of Redis."""
        first = send.first_email_id
        repeated = [(p.email.email_id, first) for p in passengers if not p.entry_id]
        if repeated:
            await persist(lambda: self._retries.finish_sends(repeated))
        # Of a batch another owner may have parked those that came from a stream.
        parked = first if len(send.passengers) > 1 else ""
        taken = [Finished(p.email.lane, p.entry_id, p.email.email_id, parked) for p in passengers if p.entry_id]
        if taken:
            await persist(lambda: self._retries.finish(taken))

    async def _leave(self, passenger: Passenger) -> None:
        email = passenger.email
        if passenger.entry_id:
            finished = Finished(email.lane, passenger.entry_id, email.email_id)
            await persist(lambda: self._retries.finish([finished]))
        else:
            await persist(lambda: self._retries.finish_sends([(email.email_id, email.email_id)]))

    async def _record_answers(self, sends: Sequence[AnsweredSend]) -> list[list[str]]:
        """Record whole sends, many in one statement; for each the dead letters that it resolved."""
        letters = await self._log.record_answers(sends)
        return [[letters[e.email_id] for e in send.accepted if e.email_id in letters] for send in sends]
