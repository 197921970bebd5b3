"""Pages from templates, and what they say about the contract's values."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, timedelta
from importlib.resources import files
from types import MappingProxyType
from typing import Literal

from aiohttp import web
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from itsdangerous import BadData, URLSafeTimedSerializer
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_operator import output
from sred_email_operator.console.own_addresses import inside
from sred_email_operator.console.sessions import Cookie, Session
from sred_email_operator.console.settings import ConsoleSettings, Login

SESSION = web.RequestKey("session", Session)
"""Who asks: there wherever a session is needed."""
Tone = Literal["good", "warn", "bad"]
_TOLD_FOR = timedelta(minutes=5)
_ENUMS = {
    "status": email_pb2.EmailStatus.DESCRIPTOR,
    "kind": email_pb2.EmailKind.DESCRIPTOR,
    "lane": email_pb2.Priority.DESCRIPTOR,
    "delivery": email_pb2.DeliveryState.DESCRIPTOR,
    "letter_reason": email_pb2.DeadLetterReason.DESCRIPTOR,
    "suppression_reason": email_pb2.SuppressionReason.DESCRIPTOR,
    "dispatch": pb.DispatchState.DESCRIPTOR,
}
_TYPES = {"css": "text/css", "js": "text/javascript", "svg": "image/svg+xml"}
_DIGEST = 12
_MINUTE_S, _HOUR_S, _DAY_S = 60, 3600, 86_400


@dataclass(frozen=True, slots=True)
class Asset:
    """A file that pages refer to."""

    body: bytes
    content_type: str


class Pages:
    """Renders the console's templates."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._settings = settings
        self.assets = MappingProxyType(_load_assets())
        """By the name that pages use: it changes with the content."""
        self._told = Cookie("told", secure=settings.secure)
        self._templates = Environment(
            loader=PackageLoader("sred_email_operator.console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._templates.filters |= {"moment": moment, "age": age, "count": count} | {
            name: _namer(name) for name in _ENUMS
        }
        self._templates.globals |= {
            "assets": {name.partition("-")[0]: f"/static/{name}" for name in self.assets},
            "read_only": settings.read_only,
            "by_token": settings.login is Login.TOKEN,
        }

    def render(self, request: web.Request, template: str, *, status: int = 200, **context: object) -> web.Response:
        """Make a page.

        Args:
            request: Whose answer it is.
            template: Name of its template.
            status: Of the answer.
            context: What the template shows.
        """
        session = request.get(SESSION)
        told = self._read_told(request, session)
        text = self._templates.get_template(template).render(
            session=session, csrf=session.key if session else "", path=inside(request.path), told=told, **context
        )
        response = web.Response(text=text, content_type="text/html", status=status)
        if told is not None:
            self._told.drop(response)
        return response

    def fragment(self, template: str, **context: object) -> str:
        """A part of a page."""
        return self._templates.get_template(template).render(**context)

    def tell(self, request: web.Request, path: str, text: str, tone: Tone = "good") -> web.Response:
        """Go on to a page that says once what was done.

        Args:
            request: Whose answer it is.
            path: Of the page; ours.
            text: What is said.
            tone: How it looks.
        """
        response = web.Response(status=303, headers={"Location": path})
        self.put_told(request, response, text, tone)
        return response

    def put_told(self, request: web.Request, response: web.Response, text: str, tone: Tone) -> None:
        """Let the next page say once what an answer that is no page has done."""
        value = _teller(request[SESSION]).dumps([tone, text])
        self._told.put(response, value if isinstance(value, str) else value.decode(), _TOLD_FOR)

    def _read_told(self, request: web.Request, session: Session | None) -> tuple[str, str] | None:
        value = self._told.of(request)
        if value is None or session is None:
            return None
        try:
            tone, text = _teller(session).loads(value, max_age=int(_TOLD_FOR.total_seconds()))
        except (BadData, ValueError, TypeError):
            return None
        return str(tone), str(text)


PAGES = web.AppKey("pages", Pages)
"""What renders."""


def render(request: web.Request, template: str, *, status: int = 200, **context: object) -> web.Response:
    """Make a page of the application that asks; see ``Pages.render``."""
    return request.app[PAGES].render(request, template, status=status, **context)


def tell(request: web.Request, path: str, text: str, tone: Tone = "good") -> web.Response:
    """Go on to a page that says once what was done; see ``Pages.tell``."""
    return request.app[PAGES].tell(request, path, text, tone)


def choices(name: str) -> Mapping[str, int]:
    """The values of an enum that a person can choose, by their names; ``name`` is one of the filters."""
    enum = _ENUMS[name]
    return {output.enum_name(enum, value.number): value.number for value in enum.values if value.number}


def moment(stamp: Timestamp) -> Markup:
    """A time, to the second; the script adds what it is here."""
    at = stamp.ToDatetime(UTC)
    return Markup('<time datetime="{}">{}</time>').format(
        f"{at:%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z", f"{at:%Y-%m-%d %H:%M:%S} UTC"
    )


def age(duration: Duration | timedelta) -> str:
    """How long, in two units at most: ``3 h 20 min``."""
    span = duration if isinstance(duration, timedelta) else duration.ToTimedelta()
    seconds = max(0.0, span.total_seconds())
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < _MINUTE_S:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    if whole < _HOUR_S:
        return f"{whole // _MINUTE_S} min {whole % _MINUTE_S} s"
    if whole < _DAY_S:
        return f"{whole // _HOUR_S} h {whole % _HOUR_S // _MINUTE_S} min"
    return f"{whole // _DAY_S} d {whole % _DAY_S // _HOUR_S} h"


def count(number: int) -> str:
    """A number for people: ``12,345``."""
    return f"{number:,}"


def _namer(name: str) -> "_Namer":
    return _Namer(name)


class _Namer:
    """Names a value of an enum, as the command line does."""

    def __init__(self, name: str) -> None:
        self._enum = _ENUMS[name]

    def __call__(self, value: int) -> str:
        return output.enum_name(self._enum, value) if value else ""


def _teller(session: Session) -> URLSafeTimedSerializer:
    return URLSafeTimedSerializer(session.key, salt="sred-email-console-told", serializer=json)


def _load_assets() -> dict[str, Asset]:
    assets = {}
    for file in files("sred_email_operator.console").joinpath("static").iterdir():
        stem, _, suffix = file.name.rpartition(".")
        body = file.read_bytes()
        digest = hashlib.sha256(body).hexdigest()[:_DIGEST]
        assets[f"{stem}-{digest}.{suffix}"] = Asset(body, _TYPES[suffix])
    return assets
