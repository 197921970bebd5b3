"""Logging in and out, and what needs neither: the assets and the probes."""

import asyncio

import structlog
from aiohttp import web

from sred_email_operator.console.guard import LOGIN
from sred_email_operator.console.own_addresses import inside
from sred_email_operator.console.rendering import PAGES, SESSION, render
from sred_email_operator.console.sessions import Session, TokenDoor, new_key, shown_name

log = structlog.get_logger(__name__)

_FOR_EVER = "public, max-age=31536000, immutable"
_LARGEST_FORM = 8 * 1024
"""Bytes: nobody is known yet who sends it."""
_REFUSED_AFTER_S = 1.0
_MOST_WAITING = 100


class LoginPages:
    """Lets in who shows the token."""

    def __init__(self, door: TokenDoor) -> None:
        self._door = door
        self._waiting = 0

    def routes(self) -> list[web.RouteDef]:
        """Where they are."""
        return [web.get(LOGIN, self._ask), web.post(LOGIN, self._log_in), web.post("/logout", self._log_out)]

    async def _ask(self, request: web.Request) -> web.Response:
        if SESSION in request:
            raise web.HTTPSeeOther(inside(request.query.get("to", "")))
        return render(request, "login.html", to=request.query.get("to", ""), name="", refused=False)

    async def _log_in(self, request: web.Request) -> web.Response:
        form = await request.clone(client_max_size=_LARGEST_FORM).post()
        name, to = shown_name(str(form.get("name", ""))), str(form.get("to", ""))
        if not self._door.opens_to(str(form.get("token", ""))):
            log.warning("login_refused", peer=request.remote)  # without the name: a token may stand there by mistake
            await self._hesitate()
            return render(request, "login.html", status=403, to=to, name=name, refused=True)
        log.info("logged_in", operator=name, peer=request.remote)
        response = web.Response(status=303, headers={"Location": inside(to)})
        self._door.keep(response, Session(name, new_key()))
        return response

    async def _hesitate(self) -> None:
        """Slow down who guesses; who knows the token waits for nobody."""
        if self._waiting >= _MOST_WAITING:
            return
        self._waiting += 1
        try:
            await asyncio.sleep(_REFUSED_AFTER_S)
        finally:
            self._waiting -= 1

    async def _log_out(self, request: web.Request) -> web.Response:
        log.info("logged_out", operator=request[SESSION].operator, peer=request.remote)
        response = web.Response(status=303, headers={"Location": LOGIN})
        self._door.leave(response)
        return response


def open_routes() -> list[web.RouteDef]:
    """What needs no session."""
    return [web.get("/static/{name}", _asset), web.get("/healthz", _alive), web.get("/readyz", _alive)]


async def _asset(request: web.Request) -> web.Response:
    asset = request.app[PAGES].assets.get(request.match_info["name"])
    if asset is None:
        raise web.HTTPNotFound(text="The console has no such file.")
    return web.Response(
        body=asset.body, content_type=asset.content_type, charset="utf-8", headers={"Cache-Control": _FOR_EVER}
    )


async def _alive(_: web.Request) -> web.Response:
    """The console can do its work whenever it runs: what the services do, its pages say."""
    return web.json_response({"status": "ready"})
