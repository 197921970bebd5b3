"""What every request passes: who asks, whether a form is ours, what a failed call looks like, and strict headers."""

import hmac
from urllib.parse import urlencode

import structlog
from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from sred_email_operator.console.failures import failure_page, page_of_call
from sred_email_operator.console.own_addresses import OwnAddresses
from sred_email_operator.console.rendering import SESSION
from sred_email_operator.console.services import CallFailedError
from sred_email_operator.console.sessions import Door
from sred_email_operator.console.settings import ConsoleSettings, Login

log = structlog.get_logger(__name__)

LOGIN = "/login"
_IN_THE_OPEN = ("/static/", "/healthz", "/readyz")
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with no-referrer, browsers would hide the origin of our own forms, too
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
_FOR_A_YEAR = "max-age=31536000"
_FORM = "application/x-www-form-urlencoded"


class Guard:
    """The middlewares."""

    def __init__(self, settings: ConsoleSettings, door: Door) -> None:
        self._settings = settings
        self._door = door
        self._own = OwnAddresses(settings)

    @property
    def middlewares(self) -> list[Middleware]:
        """In their order, the outermost first."""
        return [self._in_words, self._own_name, self._who, self._own_form]

    async def add_headers(self, _: web.Request, response: web.StreamResponse) -> None:
        """Add what browsers are to hold to."""
        response.headers.update(HEADERS)
        if self._settings.secure:
            response.headers["Strict-Transport-Security"] = _FOR_A_YEAR
        response.headers.setdefault("Cache-Control", "no-store")

    @web.middleware
    async def _in_words(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            return await handler(request)
        except CallFailedError as error:
            log.warning("call_failed", service=error.service, code=error.code.name, path=request.path)
            return page_of_call(request, error)
        except web.HTTPException as error:
            if error.status < 400:  # noqa: PLR2004 - a redirection is no failure
                raise
            return failure_page(request, error.status, error.text or error.reason)
        except Exception:
            log.exception("request_failed", path=request.path)
            return failure_page(request, 500, "This is a bug of the console. Its log says where.")

    @web.middleware
    async def _own_name(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_IN_THE_OPEN) or self._own.named(request.host):
            return await handler(request)
        return failure_page(
            request,
            403,
            "This console lets everybody in, so it answers only to the names it knows: localhost, the address it "
            "listens on, and the host of SRED_EMAIL_CONSOLE_PUBLIC_URL, which has to say how browsers see it.",
        )

    @web.middleware
    async def _who(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.path.startswith(_IN_THE_OPEN):
            return await handler(request)
        session = self._door.session_of(request)
        if session is not None:
            request[SESSION] = session
        elif request.path != LOGIN:
            return self._turned_away(request)
        response = await handler(request)
        if session is not None and session.fresh and not response.prepared:
            self._door.keep(response, session)
        return response

    def _turned_away(self, request: web.Request) -> web.StreamResponse:
        if self._settings.login is Login.PROXY:
            text = (
                "The proxy in front of the console has to say who you are, once, in the header "
                f"{self._settings.user_header}."
            )
            return failure_page(request, 403, text)
        if request.method == "GET" and "text/html" in request.headers.get("Accept", "text/html"):
            wanted = urlencode({"to": request.rel_url.raw_path})  # without its query: it may name a person
            return web.Response(status=303, headers={"Location": f"{LOGIN}?{wanted}"})
        return failure_page(request, 401, "Your session is over. Log in again; nothing was done.")

    @web.middleware
    async def _own_form(self, request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method in ("GET", "HEAD"):
            return await handler(request)
        if not self._from_here(request):
            return failure_page(
                request,
                403,
                "This form was sent from another site; nothing was done. Behind a proxy that changes the Host header, "
                "SRED_EMAIL_CONSOLE_PUBLIC_URL has to say how browsers see the console.",
            )
        if not _is_plain_form(request):
            return failure_page(
                request, 415, "Forms are application/x-www-form-urlencoded, in UTF-8. Nothing was done."
            )
        session = request.get(SESSION)
        if session is not None:
            shown = (await request.post()).get("csrf", "")
            if not isinstance(shown, str) or not hmac.compare_digest(shown.encode(), session.key.encode()):
                return failure_page(
                    request, 403, "This form is from an earlier session; nothing was done. Load the page anew."
                )
        return await handler(request)

    def _from_here(self, request: web.Request) -> bool:
        origin = request.headers.get("Origin")
        if origin is None:
            return request.headers.get("Sec-Fetch-Site") == "same-origin"
        return self._own.sent(origin, request.host)


def _is_plain_form(request: web.Request) -> bool:
    """Whether its body may be read: any codec that a charset names would be used, and some take minutes for a form."""
    return request.content_type == _FORM and (request.charset or "utf-8").lower() == "utf-8"
