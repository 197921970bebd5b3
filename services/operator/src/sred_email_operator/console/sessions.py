"""Who is there: told by a signed cookie, by the proxy in front, or by nobody."""

import hmac
import secrets
from dataclasses import dataclass
from datetime import timedelta
from typing import Protocol

from aiohttp import web
from itsdangerous import BadData, URLSafeTimedSerializer

from sred_email_operator.console.settings import ConsoleSettings, Login

LASTS = timedelta(hours=12)
"""A session: from the login on."""
LONGEST_NAME = 100
_KEY_BYTES = 32


@dataclass(frozen=True, slots=True)
class Session:
    """A browser that may see the console.

    Attributes:
        operator: The name of who sits there, for the audit; empty: nobody says.
        key: Known to this browser and to no other site: what its forms carry.
        fresh: Whether the browser does not hold the key yet.
    """

    operator: str
    key: str
    fresh: bool = False


class Door(Protocol):
    """Lets browsers in."""

    def session_of(self, request: web.Request) -> Session | None:
        """Who asks; None: nobody who may see anything."""

    def keep(self, response: web.StreamResponse, session: Session) -> None:
        """Let the browser hold a session."""


class TokenDoor:
    """Opens to who has shown the token: a cookie, signed with it, says so. Another token ends every session."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._token = settings.token.encode()
        self._signer = URLSafeTimedSerializer(self._token, salt="sred-email-console-session")
        self._cookie = Cookie("session", secure=settings.secure)

    def session_of(self, request: web.Request) -> Session | None:
        """Read the cookie."""
        text = self._cookie.of(request)
        if text is None:
            return None
        try:
            operator, key = self._signer.loads(text, max_age=int(LASTS.total_seconds()))
        except (BadData, ValueError, TypeError):
            return None
        return Session(str(operator), str(key))

    def opens_to(self, token: str) -> bool:
        """Whether it is the token; takes as long whatever is wrong with it."""
        return hmac.compare_digest(token.strip().encode(), self._token)

    def keep(self, response: web.StreamResponse, session: Session) -> None:
        """Sign the cookie."""
        text = self._signer.dumps([session.operator, session.key])
        self._cookie.put(response, text if isinstance(text, str) else text.decode(), LASTS)

    def leave(self, response: web.StreamResponse) -> None:
        """Take the cookie away."""
        self._cookie.drop(response)


class OpenDoor:
    """Opens to everybody, or to everybody whom the proxy in front names. The cookie holds the key of the forms only."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._header = settings.user_header
        self._cookie = Cookie("forms", secure=settings.secure)

    def session_of(self, request: web.Request) -> Session | None:
        """Ask the proxy's header, if there is a proxy."""
        operator = ""
        if self._header:
            named = request.headers.getall(self._header, [])
            operator = shown_name(named[0]) if len(named) == 1 else ""  # with two, one may be the browser's own
            if not operator:
                return None
        key = self._cookie.of(request)
        return Session(operator, key or new_key(), fresh=not key)

    def keep(self, response: web.StreamResponse, session: Session) -> None:
        """Let the browser hold the key."""
        self._cookie.put(response, session.key, LASTS)


class Cookie:
    """A cookie that no script and no other site gets hold of."""

    def __init__(self, name: str, *, secure: bool) -> None:
        self._name = f"__Host-console-{name}" if secure else f"console-{name}"
        self._secure = secure

    def of(self, request: web.Request) -> str | None:
        """Its value; None: the browser has none."""
        return request.cookies.get(self._name)

    def put(self, response: web.StreamResponse, value: str, lasts: timedelta) -> None:
        """Set it."""
        response.set_cookie(
            self._name,
            value,
            max_age=int(lasts.total_seconds()),
            path="/",
            secure=self._secure,
            httponly=True,
            samesite="Strict",
        )

    def drop(self, response: web.StreamResponse) -> None:
        """Remove it."""
        response.del_cookie(self._name, path="/", secure=self._secure, httponly=True, samesite="Strict")


def door_of(settings: ConsoleSettings) -> TokenDoor | OpenDoor:
    """The door that the settings ask for."""
    return TokenDoor(settings) if settings.login is Login.TOKEN else OpenDoor(settings)


def new_key() -> str:
    """A key for the forms of one browser."""
    return secrets.token_urlsafe(_KEY_BYTES)


def shown_name(text: str) -> str:
    """A name as the audit can show it: printable, and not too long."""
    return "".join(c for c in text if c.isprintable()).strip()[:LONGEST_NAME]
