"""The calls about what is kept: the audit, and people who are to be forgotten."""

import base64
import binascii
import hashlib

import grpc

from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.erasure import RecipientErasure
from sred_email_consumer.letter_handling import LetterHandling
from sred_email_consumer.letters_api import LetterCalls
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.suppressions_api import time_of
from sred_email_core.deeds import deed_of
from sred_email_core.email_send_log.audit import AuditFilter, AuditLog, AuditRecord
from sred_email_core.errors import FieldViolation, InvalidRequestError

DEFAULT_PAGE = 100
MAX_PAGE = 1000
_MAX_TOKEN = 100
_HIGHEST = 2**63
_LONGEST_FILTER = 200


class RecordCalls(LetterCalls):
    """Serves EraseRecipient and ListAuditEntries."""

    def __init__(
        self, audit: AuditLog, erasure: RecipientErasure, handling: LetterHandling, suppressions: SuppressionList
    ) -> None:
        super().__init__(handling, suppressions)
        self._audit = audit
        self._erasure = erasure

    async def EraseRecipient(  # noqa: N802 - named by the contract
        self,
        request: pb.EraseRecipientRequest,
        context: grpc.aio.ServicerContext[pb.EraseRecipientRequest, pb.EraseRecipientResponse],
    ) -> pb.EraseRecipientResponse:
        """Forget a person."""
        erased, deferred = await self._erasure.erase(request.address, deed_of(context, "ERASE"))
        return pb.EraseRecipientResponse(erased=erased, deferred=deferred)

    async def ListAuditEntries(  # noqa: N802 - named by the contract
        self,
        request: pb.ListAuditEntriesRequest,
        context: grpc.aio.ServicerContext[pb.ListAuditEntriesRequest, pb.ListAuditEntriesResponse],  # noqa: ARG002
    ) -> pb.ListAuditEntriesResponse:
        """What operators did, by pages."""
        if request.page_size < 0:
            raise InvalidRequestError([FieldViolation("page_size", "must be 0 or more")])
        size = min(request.page_size or DEFAULT_PAGE, MAX_PAGE)
        wanted = _filter(request)
        found = await self._audit.page(before=_read_token(request.page_token, wanted), size=size + 1, wanted=wanted)
        page = found[:size]
        token = _write_token(page[-1].sequence, wanted) if len(found) > size else ""
        return pb.ListAuditEntriesResponse(entries=map(_entry, page), next_page_token=token)


def _filter(request: pb.ListAuditEntriesRequest) -> AuditFilter:
    violations = [
        FieldViolation(name, f"must have at most {_LONGEST_FILTER} printable characters")
        for name, text in (("action", request.action), ("actor", request.actor))
        if len(text) > _LONGEST_FILTER or not text.isprintable()
    ]
    if violations:
        raise InvalidRequestError(violations)
    return AuditFilter(
        action=request.action or None,
        actor=request.actor or None,
        at_or_after=time_of(request.at_or_after, "at_or_after") if request.HasField("at_or_after") else None,
        before=time_of(request.before, "before") if request.HasField("before") else None,
    )


def _list_of(wanted: AuditFilter) -> str:
    """Tells the pages of one list from those of another."""
    return hashlib.sha256(repr(wanted).encode()).hexdigest()[:16]


def _write_token(sequence: int, wanted: AuditFilter) -> str:
    return base64.urlsafe_b64encode(f"audit {_list_of(wanted)} {sequence}".encode()).decode()


def _read_token(token: str, wanted: AuditFilter) -> int | None:
    if not token:
        return None
    try:
        if len(token) > _MAX_TOKEN:
            raise ValueError("longer than any of ours")  # noqa: TRY301
        word, of, number = base64.urlsafe_b64decode(token.encode("ascii")).decode("ascii").split(" ")
        sequence = int(number)
        if (word, of) != ("audit", _list_of(wanted)) or not 0 < sequence < _HIGHEST:
            raise ValueError("of another list")  # noqa: TRY301
    except (ValueError, binascii.Error) as e:
        violation = FieldViolation("page_token", "must be the next_page_token of an earlier answer for these filters")
        raise InvalidRequestError([violation]) from e
    return sequence


def _entry(record: AuditRecord) -> pb.AuditEntry:
    entry = pb.AuditEntry(
        actor=record.actor, action=record.action, target=record.target, detail=record.detail, count=record.count
    )
    if record.peer:
        entry.actor = f"{record.actor} ({record.peer})"
    entry.at.FromDatetime(record.at)
    return entry
