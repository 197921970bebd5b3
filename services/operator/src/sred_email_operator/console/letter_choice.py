"""Which dead letters an operator means, and what is to become of them: as a form carries it from page to page."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import Enum
from typing import TypeVar

from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp
from multidict import MultiMapping

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import DeadLetterReason
from sred_email_operator import output
from sred_email_operator.console.rendering import choices

_Selecting = TypeVar("_Selecting", pb.ReplayDeadLettersRequest, pb.DiscardDeadLettersRequest)


class Deed(Enum):
    """What becomes of dead letters."""

    REPLAY = "replay"
    DISCARD = "discard"
    DELIVERED = "delivered"
    NOT_DELIVERED = "not-delivered"

    @property
    def resolves(self) -> bool:
        """Whether it records what a person knows, which is only said of letters one by one."""
        return self in (Deed.DELIVERED, Deed.NOT_DELIVERED)


@dataclass(frozen=True, slots=True)
class Choice:
    """Dead letters, and what is to become of them.

    Attributes:
        deed: What.
        ids: These; empty: not by id.
        reason: Every one with this reason; 0 and no ids: all.
        error_group: Every one of this group, with its reason; None: not by group.
        failed_until: Of all, a reason or a group: those that failed then or before, RFC 3339; empty: not known yet.
    """

    deed: Deed
    ids: tuple[str, ...] = ()
    reason: int = 0
    error_group: str | None = None
    failed_until: str = ""

    def until(self, last: Timestamp) -> "Choice":
        """The same, bounded by the time when the last of them failed."""
        return replace(self, failed_until=last.ToJsonString())

    def covers(self, group: pb.DeadLetterGroup) -> bool:
        """Whether the letters of a group are meant."""
        return (not self.reason or group.reason == self.reason) and self.error_group in (None, group.error_group)

    def request(self, kind: type[_Selecting]) -> _Selecting:
        """What to ask the service for."""
        request = kind()
        if self.ids:
            request.ids.values.extend(self.ids)
            return request
        if self.error_group is not None:
            request.group.reason = DeadLetterReason.ValueType(self.reason)
            request.group.error_group = self.error_group
        elif self.reason:
            request.reason = DeadLetterReason.ValueType(self.reason)
        else:
            request.all = True
        if self.failed_until:
            request.failed_until.FromJsonString(self.failed_until)
        return request

    def hidden(self) -> list[tuple[str, str]]:
        """The fields of a form that carries it on."""
        fields = [("deed", self.deed.value), *(("id", each) for each in self.ids)]
        if not self.ids:
            fields.append(("scope", "listed"))
        fields += where(self.reason, self.error_group).items()
        if self.failed_until:
            fields.append(("failed_until", self.failed_until))
        return fields


def where(reason: int, error_group: str | None) -> dict[str, str]:
    """What an address or a form says of a reason, or of a group."""
    if not reason:
        return {}
    named = {"reason": output.enum_name(DeadLetterReason.DESCRIPTOR, reason)}
    return named if error_group is None else {**named, "error_group": error_group}


def filters_in(fields: Mapping[str, object]) -> tuple[int, str | None]:
    """Reason and group that an address or a form says; 0 and None: any.

    Raises:
        web.HTTPBadRequest: There is no such reason.
    """
    name = str(fields.get("reason", ""))
    reason = choices("letter_reason").get(name, 0)
    if name and not reason:
        raise web.HTTPBadRequest(text=f"There is no reason {name[:50]}.")
    group = fields.get("error_group")
    return reason, None if group is None or not reason else str(group)


def choice_in(form: "MultiMapping[object]") -> Choice:
    """Read a choice from a form.

    Raises:
        web.HTTPBadRequest: It is none; the text says what is missing.
    """
    try:
        deed = Deed(form.get("deed"))
    except ValueError as error:
        raise web.HTTPBadRequest(text="The form does not say what is to be done.") from error
    if form.get("scope") != "listed":
        ids = tuple(dict.fromkeys(str(each) for each in form.getall("id", [])))
        if not ids:
            raise web.HTTPBadRequest(text="Nothing was done: tick the letters that are meant, then press the button.")
        return Choice(deed, ids)
    if deed.resolves:
        raise web.HTTPBadRequest(text="What became of emails is said of letters that are ticked, not of all at once.")
    reason, group = filters_in(form)
    until = str(form.get("failed_until", ""))
    try:
        Timestamp().FromJsonString(until or "1970-01-01T00:00:00Z")
    except ValueError as error:
        raise web.HTTPBadRequest(text="The form names a time that is none.") from error
    return Choice(deed, (), reason, group, until)
