"""Dead letters: in groups, as a list, and one by one."""

from urllib.parse import urlencode

from aiohttp import web

from sred.email.v1 import operations_service_pb2 as pb
from sred.email.v1.email_pb2 import DeadLetter, DeadLetterReason, EmailKind
from sred_email_operator.console.letter_choice import filters_in, where
from sred_email_operator.console.rendering import choices, render
from sred_email_operator.console.services import CallFailedError, Reads

LETTERS = "/dead-letters"
_PAGE = 50
_MOST_KINDS = 100


class LettersPages:
    """Shows dead letters."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [web.get(LETTERS, self._list), web.get(LETTERS + "/{id:[0-9a-fA-F-]{36}}", self._one)]

    async def _list(self, request: web.Request) -> web.Response:
        reason, group = filters_in(request.query)
        kind_name = request.query.get("kind", "")
        kind = choices("kind").get(kind_name, 0)
        if kind_name and not kind:
            raise web.HTTPBadRequest(text=f"There is no kind {kind_name[:_MOST_KINDS]}.")
        listing = pb.ListDeadLettersRequest(
            reason=DeadLetterReason.ValueType(reason),
            kind=EmailKind.ValueType(kind),
            error_group=group,
            page_size=_PAGE,
            page_token=request.query.get("page", ""),
        )
        page = await self._reads.list_letters(listing)
        groups = await self._reads.list_groups(pb.ListDeadLetterGroupsRequest())
        asked = where(reason, group) | ({"kind": kind_name} if kind else {})
        more = address(**asked, page=page.next_page_token) if page.next_page_token else ""
        return render(
            request,
            "letters.html",
            letters=page.dead_letters,
            groups=[(each, address(**where(each.group.reason, each.group.error_group))) for each in groups.groups],
            more_groups=groups.more,
            reason=reason,
            error_group=group,
            kind=kind,
            listed=where(reason, group),
            first="page" not in request.query,
            more=more,
            reasons=choices("letter_reason"),
            kinds=choices("kind"),
        )

    async def _one(self, request: web.Request) -> web.Response:
        asked = pb.GetDeadLetterRequest(dead_letter_id=request.match_info["id"])
        letter = (await self._reads.get_letter(asked)).dead_letter
        return render(
            request,
            "letter.html",
            letter=letter,
            group=address(**where(letter.reason, letter.error_group)),
            timeline=await self._timeline_of(letter),
        )

    async def _timeline_of(self, letter: DeadLetter) -> list[pb.TimelineEntry]:
        """What happened to its email; nothing, where it has none or the email is gone after its time."""
        if not letter.email_id:
            return []
        try:
            return list((await self._reads.timeline(pb.GetEmailTimelineRequest(email_id=letter.email_id))).entries)
        except CallFailedError as error:
            if error.away:
                raise
            return []


def address(**query: str) -> str:
    """Of the list, with these filters."""
    return f"{LETTERS}?{urlencode(query)}" if query else LETTERS
