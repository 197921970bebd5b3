"""The addresses that get no email, and people who are to be forgotten."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import SuppressionReason
from sred_email_operator.console.rendering import SESSION, choices, render, tell
from sred_email_operator.console.services import Changes, Reads

SUPPRESSIONS = "/suppressions"
ERASE = SUPPRESSIONS + "/erase"
_PAGE = 100
_ERASING_S = 600.0
"""All of the log is looked at."""


class SuppressionsPage:
    """Shows suppressed addresses."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.get(SUPPRESSIONS, self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        address = request.query.get("address", "").strip()
        asked = pb.ListSuppressionsRequest(address=address, page_size=_PAGE, page_token=request.query.get("page", ""))
        page = await self._reads.list_suppressions(asked)
        query = {"address": address} if address else {}
        token = page.next_page_token
        return render(
            request,
            "suppressions.html",
            suppressions=page.suppressions,
            address=address,
            more=f"{SUPPRESSIONS}?{urlencode({**query, 'page': token})}" if token else "",
            reasons=choices("suppression_reason"),
        )


class SuppressionChanges:
    """Adds and removes suppressions; erases people."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [
            web.post(SUPPRESSIONS + "/add", self._add),
            web.post(SUPPRESSIONS + "/remove/ask", self._ask_to_remove),
            web.post(SUPPRESSIONS + "/remove", self._remove),
            web.get(ERASE, self._ask_whom_to_erase),
            web.post(ERASE + "/ask", self._ask_to_erase),
            web.post(ERASE, self._erase),
        ]

    async def _add(self, request: web.Request) -> web.Response:
        form = await request.post()
        asked = pb.AddSuppressionRequest(address=_address(form.get("address")))
        reason = choices("suppression_reason").get(str(form.get("reason", "")), 0)
        asked.reason = SuppressionReason.ValueType(reason)
        until = str(form.get("until", "")).strip()
        if until:
            asked.expires_at.FromDatetime(_time(until))
        kept = (await self._changes.suppress(asked, operator=request[SESSION].operator)).suppression
        return tell(request, SUPPRESSIONS, f"{kept.address} gets no more email.")

    async def _ask_to_remove(self, request: web.Request) -> web.Response:
        address = _address((await request.post()).get("address"))
        return render(
            request,
            "confirm.html",
            title=f"Let {address} get email again?",
            lines=["Writing again to an address that bounced for good or complained harms the sender's reputation."],
            danger="",
            action=SUPPRESSIONS + "/remove",
            hidden=[("address", address)],
            verb="Let it get email",
            back=SUPPRESSIONS,
        )

    async def _remove(self, request: web.Request) -> web.Response:
        address = _address((await request.post()).get("address"))
        asked = pb.RemoveSuppressionRequest(address=address)
        await self._changes.unsuppress(asked, operator=request[SESSION].operator)
        return tell(request, SUPPRESSIONS, f"{address} gets email again.")

    async def _ask_whom_to_erase(self, request: web.Request) -> web.Response:
        return render(request, "erase.html", address="", different=False)

    async def _ask_to_erase(self, request: web.Request) -> web.Response:
        return render(request, "erase.html", address=_address((await request.post()).get("address")), different=False)

    async def _erase(self, request: web.Request) -> web.Response:
        form = await request.post()
        address = _address(form.get("address"))
        if str(form.get("again", "")).strip().lower() != address.lower():
            return render(request, "erase.html", status=400, address=address, different=True)
        asked = pb.EraseRecipientRequest(address=address)
        answer = await self._changes.erase(asked, operator=request[SESSION].operator, timeout_s=_ERASING_S)
        words = f"Erased from {_emails(answer.erased)}."
        if answer.deferred:
            words += (
                f" {_emails(answer.deferred).capitalize()} will follow by themselves: a send of theirs may have been "
                "accepted and is still open."
            )
        return tell(request, SUPPRESSIONS, words)


def _address(text: object) -> str:
    address = text.strip() if isinstance(text, str) else ""
    if not address:
        raise web.HTTPBadRequest(text="Nothing was done: an email address is needed.")
    return address


def _time(text: str) -> datetime:
    """Read what a field for date and time holds, UTC."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise web.HTTPBadRequest(text="Nothing was done: a time such as 2030-01-31T08:00 is needed.") from error


def _emails(number: int) -> str:
    return "1 email" if number == 1 else f"{number:,} emails"
