"""The inbox page: what the sandbox received, to look at. Rendered here, without scripts but for its own refresh."""

import base64
import json
from collections.abc import Mapping
from importlib import resources
from itertools import islice
from urllib.parse import quote

import jinja2
from aiohttp import web

from sred_email_local.sandbox.api import PROVIDER
from sred_email_local.sandbox.email import Email
from sred_email_local.sandbox.mailbox import Delivery

MOST_ROWS = 200
_ASSETS = {"style.css": "text/css", "inbox.js": "text/javascript", "icon.svg": "image/svg+xml"}
_KIND_NAMES = {
    "WELCOME": "Welcome",
    "EMAIL_CONFIRMATION": "Confirm address",
    "PASSWORD_RESET": "Password reset",
    "SUBSCRIPTION_CHANGED": "Subscription",
    "QUOTA_WARNING": "Quota warning",
    "SYSTEM_NOTIFICATION": "Notification",
}
_PAGE_POLICY = (
    "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; frame-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
# An email's own HTML: its inline styles and images, no scripts, nothing from outside, links in a new tab.
_EMAIL_POLICY = (
    "sandbox allow-popups allow-popups-to-escape-sandbox; default-src 'none'; style-src 'unsafe-inline'; "
    "img-src data:; font-src data:; form-action 'none'; frame-ancestors 'self'"
)
_EVERY_ANSWER = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer", "cache-control": "no-store"}

_templates = jinja2.Environment(
    loader=jinja2.PackageLoader("sred_email_local.sandbox"), autoescape=True, trim_blocks=True, lstrip_blocks=True
)
routes = web.RouteTableDef()


def owns(path: str) -> bool:
    """Whether a path is one of these pages, so that its errors are pages too."""
    return path == "/" or path.startswith("/inbox")


def not_found() -> web.Response:
    """The page that says that there is nothing."""
    return _page("not_found.html", status=404)


@routes.get("/")
async def show_inbox(request: web.Request) -> web.Response:
    """All emails, newest first."""
    return _page("inbox.html", _listing(request))


@routes.get("/inbox/rows")
async def show_rows(request: web.Request) -> web.Response:
    """The changing part of the inbox page, which it asks for again and again."""
    return _page("rows.html", _listing(request))


@routes.get("/inbox/{id}")
async def show_email(request: web.Request) -> web.Response:
    """One email: its headers, as it looks, its text, its source and its files."""
    delivery = _delivery(request)
    source = json.dumps(_shortened(delivery.email.source), indent=2, ensure_ascii=False)
    values = {"delivery": delivery, "email": delivery.email, "kind": _kind(delivery.email), "source": source}
    return _page("email.html", values)


@routes.get("/inbox/{id}/html")
async def show_html(request: web.Request) -> web.Response:
    """The email's own HTML, for the frame in its page."""
    email = _delivery(request).email
    html = email.html
    for attachment in email.attachments:
        if attachment.content_id:
            data = f"data:{attachment.content_type};base64,{base64.b64encode(attachment.content).decode()}"
            html = html.replace(f"cid:{attachment.content_id}", data)
    headers = {**_EVERY_ANSWER, "content-security-policy": _EMAIL_POLICY}
    return web.Response(text=f'<base target="_blank">{html}', content_type="text/html", headers=headers)


@routes.get(r"/inbox/{id}/attachments/{index:\d+}")
async def download_attachment(request: web.Request) -> web.Response:
    """A file of an email, always as a download."""
    attachments = _delivery(request).email.attachments
    index = int(request.match_info["index"])
    if index >= len(attachments):
        raise web.HTTPNotFound
    name = quote(attachments[index].filename, safe="")
    headers = {**_EVERY_ANSWER, "content-disposition": f"attachment; filename*=UTF-8''{name}"}
    return web.Response(body=attachments[index].content, content_type="application/octet-stream", headers=headers)


@routes.get("/inbox/assets/{name}")
async def show_asset(request: web.Request) -> web.Response:
    """A file of the pages themselves."""
    name = request.match_info["name"]
    if name not in _ASSETS:
        raise web.HTTPNotFound
    body = resources.files(__package__).joinpath("assets", name).read_bytes()
    return web.Response(body=body, content_type=_ASSETS[name], charset="utf-8", headers=_EVERY_ANSWER)


def _delivery(request: web.Request) -> Delivery:
    delivery = request.app[PROVIDER].mailbox.get(request.match_info["id"])
    if delivery is None:
        raise web.HTTPNotFound
    return delivery


def _shortened(source: Mapping[str, object]) -> Mapping[str, object]:
    """The source without most of its files' content, which would fill the page."""
    attachments = source.get("attachments")
    if not isinstance(attachments, list):
        return source
    shown = [{name: f"{value[:40]}…" if name == "content" else value for name, value in a.items()} for a in attachments]
    return {**source, "attachments": shown}


def _listing(request: web.Request) -> dict[str, object]:
    mailbox = request.app[PROVIDER].mailbox
    query = request.query.get("q", "").strip()
    found = (delivery for delivery in mailbox if _mentions(delivery.email, query.casefold()))
    rows = [(delivery, _kind(delivery.email)) for delivery in islice(found, MOST_ROWS)]
    return {"rows": rows, "total": len(mailbox), "query": query, "most_rows": MOST_ROWS}


def _mentions(email: Email, words: str) -> bool:
    if not words:
        return True
    parts = (email.subject, email.sender, *email.to, *email.tags.values())
    return any(words in part.casefold() for part in parts)


def _kind(email: Email) -> Mapping[str, str]:
    """What the kind tag says: its name for people, and the CSS class of its colour."""
    kind = email.tags.get("kind", "").upper().removeprefix("EMAIL_KIND_")
    colour = kind.lower().replace("_", "-") if kind in _KIND_NAMES else "other"
    return {"name": _KIND_NAMES.get(kind, kind), "css": f"kind-{colour}"}


def _page(template: str, values: Mapping[str, object] | None = None, *, status: int = 200) -> web.Response:
    text = _templates.get_template(template).render(values or {})
    headers = {**_EVERY_ANSWER, "content-security-policy": _PAGE_POLICY}
    return web.Response(text=text, status=status, content_type="text/html", headers=headers)
