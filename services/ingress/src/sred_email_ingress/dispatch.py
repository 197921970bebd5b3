"""Accepts emails: validate, look the key up and claim it in the log, publish."""

import asyncio
import uuid
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from itertools import islice

import structlog
import uuid_utils.compat
from google.protobuf.message import DecodeError
from opentelemetry.trace import Span

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.stream_message_pb2 import EmailContent, EncryptedContent
from sred_email_core.access.caller import caller_name
from sred_email_core.email_send_log.acceptance import AcceptanceLog
from sred_email_core.email_send_log.records import SCHEDULED_IN_REDIS, EmailRecord, HeldKey, NewEmail, WrittenEmail
from sred_email_core.errors import (
    DeadlinePassedError,
    EmailDispatchError,
    EmailNotFoundError,
    FieldViolation,
    IdempotencyKeyReusedError,
    InvalidRequestError,
    LogUnavailableError,
    OverloadedError,
    UnstorableError,
)
from sred_email_core.group_commit import GroupCommit
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import Lane
from sred_email_core.tracing import NO_SPAN, propagated, trace_ids_of
from sred_email_ingress.addresses import parse_address
from sred_email_ingress.backpressure import Backpressure
from sred_email_ingress.contents import ContentComposer
from sred_email_ingress.expiry import ExpiryPolicy, expire_at_of
from sred_email_ingress.fingerprint import fingerprint
from sred_email_ingress.metrics import IngressMetrics
from sred_email_ingress.producer import RedisEmailStreamProducer
from sred_email_ingress.schedule import schedule_objections, send_at_of
from sred_email_ingress.spans import AcceptanceSpans, end
from sred_email_ingress.validation import find_violations, parse_email_id
from sred_email_ingress.violations import within_bounds

log = structlog.get_logger(__name__)

_ROW_WEIGHT = 16 * 1024
"""What a row costs besides its content, in bytes of content."""
_MOST_WEIGHT = 8 * 1024 * 1024
"""Of the emails in one statement, where it carries more than one call's."""

_MOST_IN_HAND = 256 * 1024 * 1024
"""Of emails between their call and their answer: bounds memory, and how long those that are accepted wait."""
_SHARE_BELOW_HIGH = 0.8
_RETRY_AFTER = timedelta(seconds=1)
_RENDERED_AT_ONCE = 20

_URGENT = (email_pb2.EMAIL_KIND_WELCOME, email_pb2.EMAIL_KIND_EMAIL_CONFIRMATION, email_pb2.EMAIL_KIND_PASSWORD_RESET)
"""Kinds that somebody waits for: HIGH unless the caller says otherwise."""


@dataclass(frozen=True, slots=True)
class Acceptance:
    """An accepted email.

    Attributes:
        email_id: Of the one email that its key stands for.
        status: Of that email now.
        deduplicated: The email had been accepted before this call.
        accepted_at: When it was.
    """

    email_id: str
    status: str
    deduplicated: bool
    accepted_at: datetime


@dataclass(frozen=True, slots=True)
class _Offer:
    """An email on its way into the log.

    Attributes:
        encrypted: The content as it is kept and travels, where that is encrypted.
        lane: That it travels on.
        objection: A reason to refuse it that depends on settings or time, and so does not bind a key that is held.
        span: Of accepting it.
    """

    email: NewEmail
    content: EmailContent
    encrypted: EncryptedContent | None
    lane: Lane
    objection: EmailDispatchError | None
    span: Span


class RedisStreamEmailDispatchService:
    """Decides by idempotency key in the log whether an email is new, and puts it on its Redis stream.

    Calls that arrive together share one INSERT. An accepted email is durable before ``send`` returns; whether it is on
    its stream by then is not promised.
    """

    def __init__(  # noqa: PLR0913, PLR0917 - the composition root names each
        self,
        acceptance_log: AcceptanceLog,
        producer: RedisEmailStreamProducer,
        metrics: IngressMetrics,
        contents: ContentComposer,
        expiry: ExpiryPolicy,
        backpressure: Backpressure,
        spans: AcceptanceSpans,
    ) -> None:
        self._log = acceptance_log
        self._producer = producer
        self._metrics = metrics
        self._contents = contents
        self._expiry = expiry
        self._backpressure = backpressure
        self._spans = spans
        self._in_hand = 0
        self._group: GroupCommit[list[_Offer], list[Acceptance | EmailDispatchError]] = GroupCommit(
            self._accept_calls,
            max_items=500,
            max_groups=3,
            weigh=_weight,
            max_weight=_MOST_WEIGHT,
            further_weight=_MOST_WEIGHT // 8,
        )

    async def send(self, request: SendEmailRequest, *, time_left_s: float | None = None) -> Acceptance:
        """Accept one email.

        Args:
            request: The caller's.
            time_left_s: Until the deadline of its call; None: there is none.

        Raises:
            InvalidRequestError: Fields are wrong; nothing was written.
            IdempotencyKeyReusedError: The key belongs to an email with other content; nothing was written.
            OverloadedError: More is in flight, or in the hands of this process, than is safe; nothing was written.
            DeadlinePassedError: It passed before the email was written; nothing was.
            LogUnavailableError: PostgreSQL does not answer; repeat the call with the same key.
        """
        try:
            (result,) = await self._submit([self._offer(request)], time_left_s)
        except EmailDispatchError as e:
            result = e
        self._metrics.outcomes[_outcome(result)].inc()
        if isinstance(result, EmailDispatchError):
            raise result
        return result

    async def send_many(
        self, requests: Sequence[SendEmailRequest], *, time_left_s: float | None = None
    ) -> list[Acceptance | EmailDispatchError]:
        """Accept many emails, each on its own; results in the order of the requests.

        Of requests with the same key the first one counts.

        Args:
            requests: The caller's.
            time_left_s: Until the deadline of their call; None: there is none.
        """
        results: dict[int, Acceptance | EmailDispatchError] = {}
        offers: dict[int, _Offer] = {}
        for index, request in enumerate(requests):
            if index % _RENDERED_AT_ONCE == _RENDERED_AT_ONCE - 1 and request.HasField("template"):
                await asyncio.sleep(0)  # so that other calls go on meanwhile
            try:
                offers[index] = self._offer(request)
            except InvalidRequestError as e:
                results[index] = e
        try:
            if offers:
                results.update(zip(offers, await self._submit(list(offers.values()), time_left_s), strict=True))
        except EmailDispatchError as e:
            results.update(dict.fromkeys(offers, e))
        for outcome, emails in Counter(map(_outcome, results.values())).items():
            self._metrics.outcomes[outcome].inc(emails)
        return [results[index] for index in range(len(requests))]

    async def get(self, *, email_id: str | None = None, idempotency_key: str | None = None) -> EmailRecord:
        """One email, by its id or its key.

        Raises:
            InvalidRequestError: The id is no UUID, or neither is given.
            EmailNotFoundError: There is no such email.
        """
        parsed: uuid.UUID | None = None
        if email_id is not None:
            parsed = parse_email_id(email_id)
        elif not idempotency_key or "\0" in idempotency_key:
            raise InvalidRequestError([FieldViolation("lookup", "needs email_id or idempotency_key")])
        found = await self._log.get(email_id=parsed, idempotency_key=idempotency_key)
        if found is None:
            raise EmailNotFoundError("there is no email with this id or idempotency key")
        return found

    async def drain(self) -> None:
        """Wait until everything that was flushed has ended."""
        await self._group.drain()
        await self._producer.drain()

    async def _submit(self, offers: list[_Offer], time_left_s: float | None) -> list[Acceptance | EmailDispatchError]:
        """Let emails be accepted in the next group, and end their spans.

        Raises:
            EmailDispatchError: See ``_commit``.
        """
        try:
            results = await self._commit(offers, time_left_s)
        except EmailDispatchError as e:
            _end_spans(offers, [e] * len(offers))
            raise
        _end_spans(offers, results)
        return results

    async def _commit(self, offers: list[_Offer], time_left_s: float | None) -> list[Acceptance | EmailDispatchError]:
        """Let emails be accepted in the next group.

        Raises:
            OverloadedError: This process has too much in hand. Their keys were not looked up.
            DeadlinePassedError: It passed before the group was begun; the emails were left out of it.
        """
        weight = _weight(offers)
        most = _MOST_IN_HAND if any(offer.lane is Lane.HIGH for offer in offers) else _MOST_IN_HAND * _SHARE_BELOW_HIGH
        if self._in_hand and self._in_hand + weight > most:
            raise OverloadedError("this process has too much in hand: repeat the call", retry_after=_RETRY_AFTER)
        self._in_hand += weight
        deadline_s = None if time_left_s is None else asyncio.get_running_loop().time() + time_left_s
        try:
            return await self._group.submit(offers, deadline_s=deadline_s)
        except TimeoutError as e:
            raise DeadlinePassedError("the deadline of the call passed before anything was written") from e
        finally:
            self._in_hand -= weight

    def _offer(self, request: SendEmailRequest) -> _Offer:
        violations = find_violations(request)
        if violations:
            raise InvalidRequestError(violations)
        content, violations = self._contents.compose(request)
        kind = email_pb2.EmailKind.Name(request.kind).removeprefix("EMAIL_KIND_")
        lane = Lane(request.priority or (Lane.HIGH if request.kind in _URGENT else Lane.NORMAL))
        send_at, expire_at, now = send_at_of(request), expire_at_of(request), datetime.now(UTC)
        span = self._spans.begin(kind, lane)
        objections = [*schedule_objections(send_at, expire_at, now), self._expiry.objection(expire_at, now)]
        violations += [objection for objection in objections if objection is not None]
        email_id = uuid_utils.compat.uuid7()
        message, encrypted = self._contents.freeze(str(email_id), content)
        return _Offer(
            email=NewEmail(
                id=email_id,
                idempotency_key=request.idempotency_key,
                fingerprint=fingerprint(request),
                kind=kind,
                priority=lane.name,
                from_address=content.from_address,
                recipients=[parse_address(to).address for to in request.to],
                subject=content.subject,
                message=message,
                expire_at=expire_at,
                lifetime=self._expiry.lifetime(kind),
                send_at=send_at,
                caller=caller_name(),
                traceparent=propagated(span).get("traceparent"),
            ),
            content=content,
            encrypted=encrypted,
            lane=lane,
            objection=InvalidRequestError(within_bounds(violations)) if violations else None,
            span=span,
        )

    async def _accept_calls(self, calls: Sequence[list[_Offer]]) -> list[list[Acceptance | EmailDispatchError]]:
        """Write the emails of calls that came together, and publish them; each email gets its own result."""
        judged = await self._accept([offer for offers in calls for offer in offers])
        to_publish = [r[1] for r in judged if not isinstance(r, EmailDispatchError) and r[1] is not None]
        if to_publish and not await self._producer.publish(to_publish):
            self._backpressure.unpublished()
        results = iter([r if isinstance(r, EmailDispatchError) else r[0] for r in judged])
        return [list(islice(results, len(offers))) for offers in calls]

    async def _accept(
        self, offers: Sequence[_Offer]
    ) -> list[tuple[Acceptance, QueuedEmail | None] | EmailDispatchError]:
        """Write one group; each offer gets its own result. Of offers with the same key the first one is written."""
        first: dict[str, _Offer] = {}
        objections: dict[uuid.UUID, EmailDispatchError] = {}
        for offer in offers:
            if offer.email.idempotency_key in first:
                continue
            objection = offer.objection or self._backpressure.admit(offer.lane)
            if objection is None:
                first[offer.email.idempotency_key] = offer
            else:
                objections[offer.email.id] = objection
        try:
            written = await self._write([offer.email for offer in first.values()])
            if written:  # one line a group: which email has which key and whose it is, the log table says
                callers = sorted({o.email.caller for o in first.values() if o.email.caller and o.email.id in written})
                traceparents = {offer.email.id: offer.email.traceparent for offer in first.values()}
                traces = trace_ids_of([traceparents[email_id] for email_id in written])
                log.info(
                    "emails_accepted",
                    email_ids=[str(email_id) for email_id in written],
                    callers=callers or None,
                    **traces,
                )
        except UnstorableError as e:
            if len(offers) == 1:
                log.error("email_unstorable", reason=str(e))  # noqa: TRY400 - a traceback would quote the row
                return [e]
            middle = len(offers) // 2  # the bad row must not fail its neighbours
            return [*await self._accept(offers[:middle]), *await self._accept(offers[middle:])]
        others = [offer for offer in offers if offer.email.id not in written]
        held = await self._log.find_by_keys([o.email.idempotency_key for o in others]) if others else {}
        return [
            _accepted(offer, written[offer.email.id])
            if offer.email.id in written
            else _judge(offer, held.get(offer.email.idempotency_key), objections.get(offer.email.id))
            for offer in offers
        ]

    async def _write(self, admitted: Sequence[NewEmail]) -> dict[uuid.UUID, WrittenEmail]:
        written: dict[uuid.UUID, WrittenEmail] = {}
        try:
            if admitted:
                written = await self._log.accept(admitted)
        finally:
            self._backpressure.settle(admitted=len(admitted), accepted=len(written))
        return written


def _weight(offers: Sequence[_Offer]) -> int:
    return sum(len(offer.email.message) + _ROW_WEIGHT for offer in offers)


def _accepted(offer: _Offer, written: WrittenEmail) -> tuple[Acceptance, QueuedEmail | None]:
    """An email that was written, and what is to be published of it; None: it is scheduled for later than that."""
    email_id, delay = str(offer.email.id), written.delay
    acceptance = Acceptance(
        email_id, "QUEUED" if delay is None else "SCHEDULED", deduplicated=False, accepted_at=written.created_at
    )
    if delay is not None and delay > SCHEDULED_IN_REDIS:
        return acceptance, None
    queued = QueuedEmail(
        email_id=email_id,
        kind=offer.email.kind,
        lane=offer.lane,
        accepted_at=written.created_at,
        expire_at=written.expire_at,
        content=offer.content,
        alone=len(offer.content.attachments) > 0,
        size_bytes=len(offer.email.message),
        delay=delay or timedelta(),
        send_at=None if delay is None else offer.email.send_at,
        encrypted=offer.encrypted,
        traceparent=offer.email.traceparent,
        frozen=offer.email.message,
    )
    return acceptance, queued


def _judge(
    offer: _Offer, held: HeldKey | None, objection: EmailDispatchError | None
) -> tuple[Acceptance, QueuedEmail | None] | EmailDispatchError:
    """Decide about an offer that was not written: its key is held, or something else speaks against it."""
    if held is None:
        return objection or LogUnavailableError("the email that held this key has just left the log")
    if held.fingerprint != offer.email.fingerprint:
        return IdempotencyKeyReusedError(str(held.id))
    queued = None
    if held.message is not None:  # it may never have been published: the caller that wrote it may have died
        with suppress(DecodeError):  # content that can't be read must not fail the calls that came with this one
            queued = QueuedEmail.of_content(
                email_id=str(held.id),
                kind=held.kind,
                priority=held.priority,
                accepted_at=held.created_at,
                expire_at=held.expire_at,
                content=held.message,
                alone=held.alone,
                delay=held.delay,
                traceparent=held.traceparent,
            )
    return Acceptance(str(held.id), held.status, deduplicated=True, accepted_at=held.created_at), queued


def _end_spans(offers: Sequence[_Offer], results: Sequence[Acceptance | EmailDispatchError]) -> None:
    if offers[0].span is NO_SPAN:
        return
    for offer, result in zip(offers, results, strict=True):
        end(offer.span, _outcome(result), result.email_id if isinstance(result, Acceptance) else None)


def _outcome(result: Acceptance | EmailDispatchError) -> str:
    if isinstance(result, Acceptance):
        return "deduplicated" if result.deduplicated else "accepted"
    if isinstance(result, InvalidRequestError | UnstorableError):
        return "invalid"
    if isinstance(result, OverloadedError):
        return "overloaded"
    if isinstance(result, DeadlinePassedError):
        return "late"
    return "conflict" if isinstance(result, IdempotencyKeyReusedError) else "unavailable"
