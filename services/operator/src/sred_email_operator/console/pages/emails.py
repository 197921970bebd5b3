"""Emails: found by what is known of them, and one of them with all that happened to it."""

import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from urllib.parse import urlencode

import grpc
from aiohttp import web
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1.dispatch_service_pb2 import CancelEmailRequest, GetEmailRequest, ListEmailsRequest
from sred.email.v1.email_pb2 import Email, EmailKind, EmailStatus
from sred.email.v1.operations_service_pb2 import GetEmailTimelineRequest
from sred_email_operator.console.rendering import SESSION, choices, render, tell
from sred_email_operator.console.services import CallFailedError, Changes, Reads
from sred_email_operator.timeline import told_by

PAGE = 50
_FIELDS = ("recipient", "status", "kind", "after", "before")
_OPEN = (EmailStatus.EMAIL_STATUS_QUEUED, EmailStatus.EMAIL_STATUS_SCHEDULED, EmailStatus.EMAIL_STATUS_RETRYING)


@dataclass(frozen=True, slots=True)
class Search:
    """What is looked for, as the form has it; empty fields: any.

    Attributes:
        fields: By their names.
        problem: Why it can't be looked for; empty: it can.
    """

    fields: Mapping[str, str]
    problem: str = ""

    @property
    def query(self) -> str:
        """The same for a link."""
        return urlencode({name: value for name, value in self.fields.items() if value})


class EmailPages:
    """Lists emails and shows one."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [web.get("/emails", self._list), web.get("/emails/{id}", self._show)]

    async def _list(self, request: web.Request) -> web.Response:
        named = request.query.get("q", "").strip()
        fields = {name: request.query.get(name, "").strip() for name in _FIELDS}
        if named:
            found = await self._named(named)
            if found is not None:
                raise web.HTTPSeeOther(f"/emails/{found}")
            return _page(request, Search(fields, "No email has this id or key, or it ended too long ago."), named=named)
        try:
            wanted = _request_of(fields, request.query.get("page", ""))
            answer = await self._reads.list_emails(wanted)
        except ValueError as error:
            return _page(request, Search(fields, str(error)))
        except CallFailedError as error:
            if error.code is not grpc.StatusCode.INVALID_ARGUMENT:
                raise
            return _page(request, Search(fields, "; ".join(error.lines[1:] or error.lines)))
        search, more = Search(fields), ""
        if answer.next_page_token:
            more = f"/emails?{'&'.join(filter(None, [search.query, urlencode({'page': answer.next_page_token})]))}"
        return _page(request, search, emails=answer.emails, more=more)

    async def _named(self, text: str) -> str | None:
        """The id of the email of this id or key; None: there is none."""
        lookups = [GetEmailRequest(idempotency_key=text)]
        if _is_id(text):
            lookups.insert(0, GetEmailRequest(email_id=text))
        for lookup in lookups:
            try:
                return (await self._reads.get_email(lookup)).email.email_id
            except CallFailedError as error:
                if error.code not in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                    raise
        return None

    async def _show(self, request: web.Request) -> web.Response:
        email = await email_of(self._reads, request.match_info["id"])
        away = None
        try:
            told = await self._reads.timeline(GetEmailTimelineRequest(email_id=email.email_id))
            entries = list(told.entries)
        except CallFailedError as error:
            away, entries = error, told_by(email)
        return render(request, "email.html", email=email, entries=entries, away=away, open=email.status in _OPEN)


class EmailActions:
    """Cancels an email, after asking."""

    def __init__(self, reads: Reads, changes: Changes) -> None:
        self._reads = reads
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.get("/emails/{id}/cancel", self._ask), web.post("/emails/{id}/cancel", self._cancel)]

    async def _ask(self, request: web.Request) -> web.Response:
        email = await email_of(self._reads, request.match_info["id"])
        return render(
            request,
            "confirm.html",
            title="Cancel this email?",
            lines=[f"“{email.subject}” to {', '.join(email.to)} will not be sent.", "This cannot be taken back."],
            danger="",
            action=f"/emails/{email.email_id}/cancel",
            hidden=[],
            verb="Cancel the email",
            back=f"/emails/{email.email_id}",
        )

    async def _cancel(self, request: web.Request) -> web.Response:
        email_id, operator = request.match_info["id"], request[SESSION].operator
        try:
            await self._changes.cancel(CancelEmailRequest(email_id=email_id), operator=operator)
        except CallFailedError as error:
            if error.code is not grpc.StatusCode.FAILED_PRECONDITION:
                raise
            return tell(request, f"/emails/{email_id}", f"Not cancelled: {error.lines[0]}", "bad")
        return tell(request, f"/emails/{email_id}", "The email is cancelled.", "warn")


async def email_of(reads: Reads, text: str) -> Email:
    """The email of an id.

    Raises:
        web.HTTPNotFound: It is none, or there is no such email.
        CallFailedError: The ingress can't say.
    """
    nothing = "No email has this id, or it ended too long ago."
    if not _is_id(text):
        raise web.HTTPNotFound(text=nothing)
    try:
        return (await reads.get_email(GetEmailRequest(email_id=text))).email
    except CallFailedError as error:
        if error.code is grpc.StatusCode.NOT_FOUND:
            raise web.HTTPNotFound(text=nothing) from error
        raise


def _page(
    request: web.Request, search: Search, *, emails: object = (), more: str = "", named: str = ""
) -> web.Response:
    return render(
        request,
        "emails.html",
        status=400 if search.problem and not named else 200,
        search=search,
        emails=emails,
        more=more,
        named=named,
        statuses=choices("status"),
        kinds=choices("kind"),
    )


def _request_of(fields: Mapping[str, str], page: str) -> ListEmailsRequest:
    """What the ingress is asked.

    Raises:
        ValueError: A field can't be read; the message is for people.
    """
    statuses, kinds = choices("status"), choices("kind")
    if fields["status"] and fields["status"] not in statuses:
        raise ValueError(f"Status: one of {', '.join(statuses)}.")
    if fields["kind"] and fields["kind"] not in kinds:
        raise ValueError(f"Kind: one of {', '.join(kinds)}.")
    return ListEmailsRequest(
        statuses=[EmailStatus.ValueType(statuses[fields["status"]])] if fields["status"] else [],
        recipient=fields["recipient"],
        kind=EmailKind.ValueType(kinds[fields["kind"]] if fields["kind"] else 0),
        created_after=_moment(fields["after"]),
        created_before=_moment(fields["before"]),
        page_size=PAGE,
        page_token=page,
    )


def _moment(text: str) -> Timestamp | None:
    if not text:
        return None
    stamp = Timestamp()
    try:
        when = datetime.fromisoformat(text)
        stamp.FromDatetime(when if when.tzinfo else when.replace(tzinfo=UTC))
    except (ValueError, OverflowError) as error:
        raise ValueError("Accepted from, until: a time such as 2026-03-01T12:00, in UTC.") from error
    return stamp


def _is_id(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
