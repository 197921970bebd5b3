"""The audit: who did what."""

from datetime import UTC, datetime
from urllib.parse import urlencode

from aiohttp import web

from sred.email.v1 import operations_service_pb2 as pb
from sred_email_operator.console.rendering import render
from sred_email_operator.console.services import Reads

AUDIT = "/audit"
_PAGE = 100
ACTIONS = (
    "CANCEL",
    "REPLAY",
    "RESOLVE",
    "DISCARD",
    "PAUSE",
    "RESUME",
    "ADD_SUPPRESSION",
    "REMOVE_SUPPRESSION",
    "ERASE",
)
_FILTERS = ("action", "actor", "after", "before")


class AuditPage:
    """Shows what operators did."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.get(AUDIT, self._list)]

    async def _list(self, request: web.Request) -> web.Response:
        asked = {name: request.query.get(name, "").strip() for name in _FILTERS}
        listing = pb.ListAuditEntriesRequest(
            page_size=_PAGE,
            page_token=request.query.get("page", ""),
            action=asked["action"],
            actor=asked["actor"],
        )
        if asked["after"]:
            listing.at_or_after.FromDatetime(_time(asked["after"]))
        if asked["before"]:
            listing.before.FromDatetime(_time(asked["before"]))
        page = await self._reads.list_audit(listing)
        query = {name: text for name, text in asked.items() if text}
        token = page.next_page_token
        return render(
            request,
            "audit.html",
            entries=page.entries,
            asked=asked,
            filtered=bool(query),
            actions=ACTIONS,
            more=f"{AUDIT}?{urlencode({**query, 'page': token})}" if token else "",
        )


def _time(text: str) -> datetime:
    """Read what a field for date and time holds, UTC."""
    try:
        return datetime.fromisoformat(text).replace(tzinfo=UTC)
    except ValueError as error:
        raise web.HTTPBadRequest(text="A time such as 2030-01-31T08:00 is needed.") from error
