"""Lists emails by pages: filters checked, places written into tokens."""

import asyncio
import json
import struct
import uuid
from datetime import UTC, datetime, timedelta

from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1.dispatch_service_pb2 import ListEmailsRequest
from sred.email.v1.email_pb2 import EmailKind, EmailStatus
from sred_email_core.email_send_log.listing import EmailFilter, EmailList, Place
from sred_email_core.email_send_log.records import EmailRecord
from sred_email_core.errors import FieldViolation, InvalidRequestError
from sred_email_ingress.addresses import InvalidAddressError, parse_address
from sred_email_ingress.tokens import TokenMaker

DEFAULT_PAGE = 50
MAX_PAGE = 500
_READERS = 2
"""Statements that read at once: the other connections are for who sends."""
_LOOKS = 10
"""Statements for one page: where what is wanted is rare, a page holds what they found, and the next one goes on."""

_TOKENS = TokenMaker(b"list")
_PLACE = struct.Struct(">q16s")
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_FIRST_SECOND, _LAST_SECOND, _NANOS = -62_135_596_800, 253_402_300_799, 1_000_000_000
_KINDS = tuple(name.removeprefix("EMAIL_KIND_") for name, number in EmailKind.items() if number)


class EmailListing:
    """Lists emails, the newest first.

    The order is that of created_at and id, which never change, and a token holds both of the last email of its page: so
    pages stay right while emails arrive and change.
    """

    def __init__(self, emails: EmailList) -> None:
        self._emails = emails
        self._reading = asyncio.Semaphore(_READERS)

    async def page(self, request: ListEmailsRequest) -> tuple[list[EmailRecord], str]:
        """A page, and the token of the next one; empty: this is the last.

        Raises:
            InvalidRequestError: A filter is bad, or the token is none of ours for these filters.
            LogUnavailableError: PostgreSQL does not answer.
        """
        wanted, violations = _filter(request)
        if request.page_size < 0:
            violations.append(FieldViolation("page_size", "must be 0 or more"))
        bound_to = _name(wanted)
        before: Place | None = None
        if request.page_token and not violations:
            place = _TOKENS.read(request.page_token, bound_to=bound_to)
            if place is None or len(place) != _PLACE.size:
                violations.append(
                    FieldViolation("page_token", "must be the next_page_token of a page with these same filters")
                )
            else:
                before = _read_place(place)
        if violations:
            raise InvalidRequestError(violations)
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        found, after = await self._find(wanted, size, before)
        return found, _TOKENS.write(_write_place(after), bound_to=bound_to) if after else ""

    async def _find(
        self, wanted: EmailFilter, size: int, before: Place | None
    ) -> tuple[list[EmailRecord], Place | None]:
        """A page, and where the next one begins; None: this is the last."""
        found: list[EmailRecord] = []
        for _ in range(_LOOKS):
            async with self._reading:
                more, before = await self._emails.page(wanted, size=size + 1 - len(found), before=before)
            found += more
            if before is None or len(found) > size:
                break
        page = found[:size]
        return page, Place(page[-1].created_at, page[-1].id) if len(found) > size else before


def _filter(request: ListEmailsRequest) -> tuple[EmailFilter, list[FieldViolation]]:
    """What is wanted, and what is wrong with it."""
    violations = [
        FieldViolation(f"statuses[{index}]", "is no status that this version knows")
        for index, status in enumerate(request.statuses[:100])
        if not status or status not in EmailStatus.values()
    ]
    if len(request.statuses) > 100:  # noqa: PLR2004 - more than any list without repeats
        violations.append(FieldViolation("statuses", "must hold at most 100"))
    if request.kind not in EmailKind.values():
        violations.append(FieldViolation("kind", "is no kind that this version knows"))
    recipient = None
    if request.recipient:
        try:
            recipient = parse_address(request.recipient).address
        except InvalidAddressError as e:
            violations.append(FieldViolation("recipient", str(e)))
    bounds = [
        getattr(request, field) if request.HasField(field) else None for field in ("created_after", "created_before")
    ]
    for field, bound in zip(("created_after", "created_before"), bounds, strict=True):
        if bound is not None and not _is_time(bound):
            violations.append(FieldViolation(field, "is no time between the years 1 and 9999"))
    if violations:
        return EmailFilter(_KINDS), violations[:50]
    created_from, created_until = (None if bound is None else _microsecond_from(bound) for bound in bounds)
    statuses = sorted({EmailStatus.Name(s).removeprefix("EMAIL_STATUS_") for s in request.statuses})
    wanted = EmailFilter(
        kinds=(EmailKind.Name(request.kind).removeprefix("EMAIL_KIND_"),) if request.kind else _KINDS,
        statuses=tuple(statuses) or None,
        recipient=recipient,
        created_from=created_from,
        created_until=created_until,
    )
    return wanted, []


def _name(wanted: EmailFilter) -> bytes:
    """The filters as a token is bound to them: the same for the same filters, however they were written."""
    times = [None if t is None else t.isoformat() for t in (wanted.created_from, wanted.created_until)]
    return json.dumps([wanted.kinds, wanted.statuses, wanted.recipient, times]).encode()


def _is_time(time: Timestamp) -> bool:
    return _FIRST_SECOND <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < _NANOS


def _microsecond_from(time: Timestamp) -> datetime:
    """The first microsecond that is not before a time: as finely as PostgreSQL tells times apart."""
    microseconds = min(-(-time.nanos // 1000), 999_999 if time.seconds == _LAST_SECOND else 1_000_000)
    return _EPOCH + timedelta(seconds=time.seconds, microseconds=microseconds)


def _write_place(last: Place) -> bytes:
    return _PLACE.pack((last.created_at - _EPOCH) // _MICROSECOND, last.id.bytes)


def _read_place(place: bytes) -> Place:
    microseconds, last_id = _PLACE.unpack(place)
    return Place(_EPOCH + timedelta(microseconds=microseconds), uuid.UUID(bytes=last_id))
