"""From taken work to a settled outcome: claim, post, settle. Always in this order."""

import asyncio
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta

import structlog
import uuid_utils.compat

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.content_reader import ContentReader, Read, queued_member
from sred_email_consumer.dead_letters import DeadLetterService
from sred_email_consumer.key_hold import KeyHold
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_consumer.outcome import Accepted
from sred_email_consumer.resend import Request, ResendClient
from sred_email_consumer.retry_service import RedisEmailRetryService
from sred_email_consumer.sends import ClaimedSend, Passenger, Turn, lease_clock, persist
from sred_email_consumer.serializer import (
    OutgoingEmail,
    body_sha256,
    is_known,
    render,
    shape_of,
)
from sred_email_consumer.settlement import Settlement
from sred_email_consumer.spans import DeliverySpans
from sred_email_consumer.suppression import RecipientScreen, without
from sred_email_consumer.weather import ProviderWeather
from sred_email_core.email_send_log.delivery import DeliveryLog
from sred_email_core.email_send_log.records import Claim, NewSend, Repeat, RepeatState, Standing
from sred_email_core.errors import KeyMissingError, MalformedEntryError
from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.codec import decode
from sred_email_core.queue.scripts import Entry

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class DeliverySettings:
    """What delivery needs to know.

    Attributes:
        lease: How long a claim keeps others from a send.
        attempt: The longest that one request takes.
        redirect_to: Where all emails go instead; None: to their recipients.
        configured_headers: What is added to the headers of some kinds; None: nothing.
        max_deliveries: Owners that may die while they have an entry or a send; then it is given up.
    """

    lease: timedelta
    attempt: timedelta
    redirect_to: str | None
    configured_headers: bytes | None
    max_deliveries: int


class EmailDelivery:
    """Delivers one request at a time per call; claims and records of concurrent calls share their statements.

    Until the request is made, ``stopping`` ends a wait for PostgreSQL or Redis with StoppingError: then nothing was
    posted, and what was taken is to be handed back.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root names each
        self,
        delivery_log: DeliveryLog,
        retries: RedisEmailRetryService,
        dead_letters: DeadLetterService,
        resend: ResendClient,
        settlement: Settlement,
        contents: ContentReader,
        key_hold: KeyHold,
        screen: RecipientScreen,
        weather: ProviderWeather,
        settings: DeliverySettings,
        metrics: ConsumerMetrics,
        spans: DeliverySpans,
    ) -> None:
        self._log = delivery_log
        self._retries = retries
        self._dead_letters = dead_letters
        self._resend = resend
        self._settlement = settlement
        self._contents = contents
        self._key_hold = key_hold
        self._screen = screen
        self._weather = weather
        self._settings = settings
        self._metrics = metrics
        self._spans = spans
        self._claims: GroupCommit[NewSend, tuple[Claim | dict[str, Standing], float]] = GroupCommit(
            self._claim, max_items=100, max_groups=2
        )

    async def deliver_request(self, entries: Sequence[Entry], stopping: asyncio.Event, turn: Turn) -> None:
        """Deliver the emails of these entries in one request, or decide what else becomes of them.

        Args:
            entries: Of one request.
            stopping: See the class.
            turn: When the request may go out.

        Raises:
            StoppingError: Before anything was posted.
        """
        passengers = []
        for entry in entries:
            if entry.deaths >= self._settings.max_deliveries:
                await persist(lambda entry=entry: self._dead_letters.keep_poison(entry), stopping)  # type: ignore[misc]
                continue
            try:
                passengers.append(Passenger(decode(entry.fields, entry.lane), entry.entry_id))
            except MalformedEntryError as e:
                error = str(e)
                await persist(
                    lambda entry=entry, error=error: self._dead_letters.keep_malformed(entry, error),  # type: ignore[misc]
                    stopping,
                )
        if passengers:
            with self._spans.processing(passengers):
                await self._deliver_entries(passengers, stopping, turn)

    async def _deliver_entries(self, passengers: list[Passenger], stopping: asyncio.Event, turn: Turn) -> None:
        try:
            await self._key_hold.check(stopping)
            left = await self._with_content(passengers, stopping)
        except KeyMissingError as e:
            missing = e
            await persist(lambda: self._key_hold.stop(passengers[0].email.email_id, missing), stopping)
            await persist(lambda: self._retries.hand_back([(p.email.lane, p.entry_id) for p in passengers]))
            return
        while left:
            once, again = _each_once(left)
            left = [*await self._deliver_new(once, stopping, turn), *again]

    async def deliver_repeat(
        self, first_email_id: str, alive: Collection[str], stopping: asyncio.Event, turn: Turn
    ) -> None:
        """Repeat a send that is due, with the same key and the same bytes.

        Args:
            first_email_id: Of the send.
            alive: Consumers that gave a sign of life of late.
            stopping: See the class.
            turn: When the request may go out.

        Raises:
            StoppingError: Before anything was posted.
        """
        claimed_at_s = 0.0

        async def claim() -> list[Repeat]:
            nonlocal claimed_at_s
            claimed_at_s = lease_clock()
            return await self._log.claim_repeats([first_email_id], alive)

        (repeat,) = await persist(claim, stopping)
        if repeat.state is RepeatState.NOT_YET:
            await persist(lambda: self._retries.postpone(first_email_id, repeat.wait))
            return
        if repeat.state is RepeatState.GONE or repeat.claim is None or repeat.shape is None:
            await persist(lambda: self._retries.finish_sends([(first_email_id, first_email_id)]))
            return
        passengers = tuple(Passenger(queued_member(member), left_out=member.left_out) for member in repeat.members)
        send = ClaimedSend(repeat.claim, claimed_at_s, passengers, repeat.shape, b"")
        with self._spans.processing(passengers):
            await self._go_on(repeat, send, turn)

    async def _go_on(self, repeat: Repeat, send: ClaimedSend, turn: Turn) -> None:
        """Do with an open send what is to be done with it: post it, or end it."""
        if repeat.state is RepeatState.EXPIRED:
            await self._settlement.expire(send)
        elif repeat.state is RepeatState.PAST_HORIZON:
            await self._settlement.give_up(send, "its horizon passed before an answer came")
        elif repeat.deaths >= self._settings.max_deliveries:
            await self._settlement.give_up(send, f"{repeat.deaths} consumers died while they were sending it")
        elif not is_known(send.shape):
            await self._settlement.leave_to_newer(send)
        else:
            await self._repeat(repeat, send, turn)

    async def _repeat(self, repeat: Repeat, send: ClaimedSend, turn: Turn) -> None:
        """Post a send again that may be."""
        try:
            await self._key_hold.check()
            passengers = self._contents.of_members(send.passengers)
        except KeyMissingError as e:
            missing = e
            await persist(lambda: self._key_hold.stop(send.first_email_id, missing))
            await self._undo(send, "an encryption key is missing")
            return
        body = None if passengers is None else _same_body(repeat, passengers)
        if passengers is None or body is None:
            await self._settlement.give_up(send, "its body can't be made again with the same bytes")
        else:
            await self._post(replace(send, passengers=passengers, body=body), turn)

    async def _with_content(self, passengers: list[Passenger], stopping: asyncio.Event) -> list[Passenger]:
        """The emails with their contents; those that have none any more are put right.

        Raises:
            KeyMissingError: A key is not here; nothing was changed.
        """

        async def read() -> Read | KeyMissingError:
            try:
                return await self._contents.read(passengers)
            except KeyMissingError as e:  # to try again without it is no use
                return e

        found = await persist(read, stopping)
        if isinstance(found, KeyMissingError):
            raise found
        for email_id, error in found.unreadable.items():
            await persist(lambda i=email_id, e=error: self._log.record_poison(i, e), stopping)  # type: ignore[misc]
        if found.gone:
            await self._settlement.put_right(found.gone)
        return found.complete

    async def _deliver_new(self, passengers: list[Passenger], stopping: asyncio.Event, turn: Turn) -> list[Passenger]:
        """Claim and post; the emails that are left to try again, because others of them could not be claimed."""
        screened = await persist(lambda: self._screen.look(passengers), stopping)
        if screened.suppressed:
            await self._settlement.suppressed(screened.suppressed)
        passengers = screened.fit
        if not passengers:
            return []
        alone = len(passengers) == 1
        emails = [_outgoing(p) for p in passengers]
        shape = shape_of(
            emails, redirect_to=self._settings.redirect_to, configured_headers=self._settings.configured_headers
        )
        body = render(emails, shape)
        ids = tuple(p.email.email_id for p in passengers)
        left_out = {p.email.email_id: p.left_out for p in passengers if p.left_out}
        send_id = None if alone else f"batch-{uuid_utils.compat.uuid7()}"
        new = NewSend(ids, shape, body_sha256(body), send_id, left_out)
        claim, claimed_at_s = await persist(lambda: self._claims.submit(new), stopping)
        if isinstance(claim, Claim):
            await self._post(ClaimedSend(claim, claimed_at_s, tuple(passengers), shape, body), turn)
            return []
        if not claim:
            raise RuntimeError("a send was not claimed although each of its emails was free")
        refused = [p for p in passengers if p.email.email_id in claim]
        await asyncio.gather(*(self._settlement.put_one_right(p, claim[p.email.email_id]) for p in refused))
        return [p for p in passengers if p.email.email_id not in claim]

    async def _post(self, send: ClaimedSend, turn: Turn) -> None:
        if turn.not_before_s:
            self._metrics.limiter_wait.observe(max(0.0, turn.not_before_s - time.monotonic()))
        await turn.come()
        if turn.is_stale():  # a grant is used at once, or many go out together when PostgreSQL is back
            await self._undo(send, "its turn is over")
            return
        elapsed = timedelta(seconds=lease_clock() - send.claimed_at_s)
        expires_in = send.claim.expires_in
        if elapsed + self._settings.attempt >= self._settings.lease or (
            expires_in is not None and elapsed >= expires_in
        ):
            # We were stopped since the claim: the answer would come when the send may be another's, or the email has
            # expired.
            await self._undo(send, "too much time passed since the claim")
            return
        claim, attempt = send.claim, send.claim.attempts + 1
        request = Request(
            send.shape.endpoint, claim.send_id, send.body, len(send.passengers), repeats=claim.requests_begun - 1
        )
        log.debug("request_begins", send_id=claim.send_id, attempt=attempt)
        began_at, began_s = time.time(), time.perf_counter()
        answer = await self._resend.post(request, turn.used)
        self._metrics.request_seconds.observe(time.perf_counter() - began_s)
        self._spans.answered(answer, attempt=attempt)
        news = self._weather.learn(answer)
        learned = asyncio.ensure_future(news) if news else None
        if isinstance(answer, Accepted):
            self._metrics.accepted.inc()
            emails = [send.passengers[position].email for position in answer.message_ids]
            self._metrics.observe_way(emails, began_at)
            await self._settlement.accepted(send, answer)
        else:
            self._metrics.failures[answer.kind].inc()
            await self._settlement.failed(send, answer)
        if learned:
            await learned

    async def _undo(self, send: ClaimedSend, reason: str) -> None:
        """Give a claim back whose request was not made, and what was taken for it."""
        await persist(lambda: self._log.undo_claims([send.claim]))
        log.warning("claim_undone", send_id=send.claim.send_id, reason=reason)
        entries = [(p.email.lane, p.entry_id) for p in send.passengers if p.entry_id]
        if entries:
            await persist(lambda: self._retries.hand_back(entries))
        else:
            await persist(lambda: self._retries.postpone(send.first_email_id, timedelta()))

    async def _claim(self, sends: Sequence[NewSend]) -> list[tuple[Claim | dict[str, Standing], float]]:
        """Claim many sends in one statement; with each the time at which its lease was asked for."""
        asked_at_s = lease_clock()
        return [(claim, asked_at_s) for claim in await self._log.claim(sends)]


def _each_once(passengers: Sequence[Passenger]) -> tuple[list[Passenger], list[Passenger]]:
    """The first entry of each email, and further ones: they are put right when the first is settled."""
    first: dict[str, Passenger] = {}
    again = [p for p in passengers if first.setdefault(p.email.email_id, p) is not p]
    return list(first.values()), again


def _outgoing(passenger: Passenger) -> OutgoingEmail:
    email = passenger.email
    content = without(email.content or EmailContent(), passenger.left_out)
    return OutgoingEmail(email.email_id, email.kind, content)


def _same_body(repeat: Repeat, passengers: Sequence[Passenger]) -> bytes | None:
    """The body of a send, made again; None: it would have other bytes than the first time."""
    if repeat.shape is None or any(member.message is None for member in repeat.members):
        return None
    body = render([_outgoing(p) for p in passengers], repeat.shape)
    return body if body_sha256(body) == repeat.body_sha256 else None
