"""Pausing and resuming delivery."""

from aiohttp import web

from sred.email.v1.email_pb2 import Priority
from sred.email.v1.operations_service_pb2 import PauseDeliveryRequest, ResumeDeliveryRequest
from sred_email_operator.console.rendering import SESSION, choices, render, tell
from sred_email_operator.console.services import Changes


class DeliveryActions:
    """Stops delivery and lets it go on: all lanes or one, after asking."""

    def __init__(self, changes: Changes) -> None:
        self._changes = changes

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [
            web.get("/delivery/pause", self._ask_pause),
            web.post("/delivery/pause", self._pause),
            web.get("/delivery/resume", self._ask_resume),
            web.post("/delivery/resume", self._resume),
        ]

    async def _ask_pause(self, request: web.Request) -> web.Response:
        lane = _lane(request.query.get("lane", ""))
        return render(
            request,
            "pause.html",
            title=f"Pause {_words(lane)}?",
            lines=[
                "Nothing more is sent until somebody resumes. Emails are accepted as ever, what is being sent ends."
            ],
            danger="",
            action="/delivery/pause",
            hidden=[("lane", lane)],
            verb="Pause",
            back="/",
        )

    async def _pause(self, request: web.Request) -> web.Response:
        form = await request.post()
        lane, reason = _lane(str(form.get("lane", ""))), str(form.get("reason", "")).strip()
        pausing = PauseDeliveryRequest(priority=_priority(lane), reason=reason)
        await self._changes.pause(pausing, operator=request[SESSION].operator)
        return tell(request, "/", f"Paused: {_words(lane)}.", "warn")

    async def _ask_resume(self, request: web.Request) -> web.Response:
        lane = _lane(request.query.get("lane", ""))
        lines = ["What waits is sent from now on."]
        if not lane:
            lines.append("Where the provider stopped delivery, one email tries at once whether it answers.")
        return render(
            request,
            "confirm.html",
            title=f"Resume {_words(lane)}?",
            lines=lines,
            danger="",
            action="/delivery/resume",
            hidden=[("lane", lane)],
            verb="Resume",
            back="/",
        )

    async def _resume(self, request: web.Request) -> web.Response:
        lane = _lane(str((await request.post()).get("lane", "")))
        resuming = ResumeDeliveryRequest(priority=_priority(lane))
        await self._changes.resume(resuming, operator=request[SESSION].operator)
        return tell(request, "/", f"Resumed: {_words(lane)}.")


def _lane(text: str) -> str:
    """The lane's name; empty: all.

    Raises:
        web.HTTPBadRequest: There is no such lane.
    """
    if text and text not in choices("lane"):
        raise web.HTTPBadRequest(text=f"There is no such lane. The lanes are {', '.join(choices('lane'))}.")
    return text


def _priority(lane: str) -> Priority.ValueType:
    return Priority.ValueType(choices("lane")[lane] if lane else 0)


def _words(lane: str) -> str:
    return f"the lane {lane}" if lane else "all lanes"
