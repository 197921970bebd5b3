"""The calls about dead letters that send nothing: translate, delegate, translate back."""

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.letter_handling import LetterHandling
from sred_email_consumer.operations import Selection
from sred_email_consumer.suppression_list import SuppressionList
from sred_email_consumer.suppressions_api import SuppressionCalls, time_of
from sred_email_core.deeds import deed_of
from sred_email_core.email_send_log.records import DeadLetterRecord, LetterGroup, LetterSelection
from sred_email_core.errors import FieldViolation, InvalidRequestError

_NAMED_IDS = 10
_LONGEST_ERROR = 200


class LetterCalls(SuppressionCalls):
    """Serves those calls of EmailOperationsService that look at dead letters or end them."""

    def __init__(self, handling: LetterHandling, suppressions: SuppressionList) -> None:
        super().__init__(suppressions)
        self._handling = handling

    async def GetDeadLetter(  # noqa: N802 - named by the contract
        self,
        request: pb.GetDeadLetterRequest,
        context: grpc.aio.ServicerContext[pb.GetDeadLetterRequest, pb.GetDeadLetterResponse],  # noqa: ARG002
    ) -> pb.GetDeadLetterResponse:
        """One dead letter."""
        return pb.GetDeadLetterResponse(dead_letter=dead_letter(await self._handling.get(request.dead_letter_id)))

    async def ResolveDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.ResolveDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.ResolveDeadLettersRequest, pb.ResolveDeadLettersResponse],
    ) -> pb.ResolveDeadLettersResponse:
        """Record what a person knows."""
        said = "delivered" if request.delivered else "not delivered"
        detail = f"{said}: {request.note}" if request.note else said
        resolved = await self._handling.resolve(
            request.ids.values,
            delivered=request.delivered,
            note=request.note,
            deed=deed_of(context, "RESOLVE", _named(request.ids), detail),
        )
        return pb.ResolveDeadLettersResponse(resolved=resolved)

    async def DiscardDeadLetters(  # noqa: N802 - named by the contract
        self,
        request: pb.DiscardDeadLettersRequest,
        context: grpc.aio.ServicerContext[pb.DiscardDeadLettersRequest, pb.DiscardDeadLettersResponse],
    ) -> pb.DiscardDeadLettersResponse:
        """Throw dead letters away."""
        result = await self._handling.discard(
            selection(request), limit=request.limit, deed=deed_of(context, "DISCARD", selection_name(request))
        )
        return pb.DiscardDeadLettersResponse(discarded=result.discarded, remaining=result.remaining)


def selection(request: pb.ReplayDeadLettersRequest | pb.DiscardDeadLettersRequest) -> Selection:
    """Which dead letters.

    Raises:
        InvalidRequestError: The request does not say.
    """
    which = request.WhichOneof("selection")
    if which == "ids" and request.ids.values:
        return Selection(ids=tuple(request.ids.values))
    until = time_of(request.failed_until, "failed_until") if request.HasField("failed_until") else None
    if which == "all" and request.all:
        return Selection(which=LetterSelection(failed_until=until))
    if which == "reason" and (reason := reason_name(request.reason)) is not None:
        return Selection(which=LetterSelection(reason, failed_until=until))
    if which == "group" and (reason := reason_name(request.group.reason)) is not None:
        return Selection(which=LetterSelection(reason, error_group(request.group.error_group, "group."), until))
    raise InvalidRequestError([FieldViolation("selection", "must be ids, all, a reason or a group with its reason")])


def selection_name(request: pb.ReplayDeadLettersRequest | pb.DiscardDeadLettersRequest) -> str:
    """What the audit calls a selection; only for one that was read."""
    match request.WhichOneof("selection"):
        case "ids":
            return _named(request.ids)
        case "reason":
            return f"reason {reason_name(request.reason)}"
        case "group":
            return f"reason {reason_name(request.group.reason)}, error {request.group.error_group!r}"
    return "all"


def error_group(text: str, where: str = "") -> str:
    """Read what the errors of a group have in common.

    Raises:
        InvalidRequestError: No group can have that.
    """
    if len(text) > _LONGEST_ERROR or "\x00" in text:
        raise InvalidRequestError([FieldViolation(f"{where}error_group", "must be the error_group of a dead letter")])
    return text


def reason_name(value: int) -> str | None:
    """Name of a DeadLetterReason; None: unspecified.

    Raises:
        InvalidRequestError: It is none that this version knows.
    """
    if value not in email_pb2.DeadLetterReason.values():
        raise InvalidRequestError([FieldViolation("reason", "is no reason that this version knows")])
    name = email_pb2.DeadLetterReason.Name(value).removeprefix("DEAD_LETTER_REASON_")  # type: ignore[arg-type]
    return None if name == "UNSPECIFIED" else name


def dead_letter(letter: DeadLetterRecord) -> email_pb2.DeadLetter:
    """A dead letter in the contract's words."""
    failed_at = Timestamp()
    failed_at.FromDatetime(letter.failed_at)
    repeatable_until = None
    if letter.repeatable_until is not None:
        repeatable_until = Timestamp()
        repeatable_until.FromDatetime(letter.repeatable_until)
    return email_pb2.DeadLetter(
        dead_letter_id=str(letter.id),
        email_id=str(letter.email_id or ""),
        reason=email_pb2.DeadLetterReason.Value(f"DEAD_LETTER_REASON_{letter.reason}"),
        error=letter.error,
        attempts=letter.attempts,
        failed_at=failed_at,
        kind=email_pb2.EmailKind.Value(f"EMAIL_KIND_{letter.kind or 'UNSPECIFIED'}"),
        to=letter.recipients or [],
        subject=letter.subject or "",
        may_have_been_accepted=letter.may_have_been_accepted,
        repeatable_until=repeatable_until,
        error_group=letter.error_group,
    )


def letter_group(group: LetterGroup) -> pb.DeadLetterGroupStats:
    """A group in the contract's words."""
    stats = pb.DeadLetterGroupStats(
        group=pb.DeadLetterGroup(
            reason=email_pb2.DeadLetterReason.Value(f"DEAD_LETTER_REASON_{group.reason}"), error_group=group.error_group
        ),
        letters=group.letters,
        more=group.more,
        may_have_been_accepted=group.may_have_been_accepted,
    )
    stats.oldest_failed_at.FromDatetime(group.oldest)
    stats.latest_failed_at.FromDatetime(group.latest)
    return stats


def _named(ids: pb.DeadLetterIds) -> str:
    """Some ids by name: the first ones, cut to an id's length, since a caller may write anything."""
    named = " ".join(value[:45] for value in ids.values[:_NAMED_IDS])
    more = len(ids.values) - _NAMED_IDS
    return f"{named} and {more} more" if more > 0 else named
