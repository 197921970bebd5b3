"""What went wrong, as a page in plain words."""

from http import HTTPStatus

import grpc
from aiohttp import web

from sred_email_operator.console.rendering import render
from sred_email_operator.console.services import CallFailedError

_REFUSED = (
    "The {service} does not accept the console's token. Give the console one of its own in SRED_EMAIL_TOKEN, with the "
    "scopes it needs: read; operate, to change something; send, to cancel emails. And restart it."
)
_AWAY = (
    "The {service} does not answer. Emails are accepted and sent without the console; look whether it runs, and "
    "whether SRED_EMAIL_{variable}_ADDRESS of the console is right."
)
_CALLS: dict[grpc.StatusCode, tuple[int, str, str]] = {
    grpc.StatusCode.UNAVAILABLE: (503, "The {service} is away", _AWAY),
    grpc.StatusCode.DEADLINE_EXCEEDED: (504, "The {service} does not answer in time", _AWAY),
    grpc.StatusCode.UNAUTHENTICATED: (502, "The console may not ask the {service}", _REFUSED),
    grpc.StatusCode.PERMISSION_DENIED: (502, "The console may not do this", _REFUSED),
    grpc.StatusCode.NOT_FOUND: (
        404,
        "There is none",
        "It may have been handled meanwhile, or it is gone after its time.",
    ),
    grpc.StatusCode.INVALID_ARGUMENT: (
        400,
        "The {service} refuses this",
        "Nothing was done. Mend what it names, and try again.",
    ),
    grpc.StatusCode.FAILED_PRECONDITION: (409, "This can't be done", "Nothing was done."),
    grpc.StatusCode.RESOURCE_EXHAUSTED: (
        503,
        "The {service} has too much to do",
        "Nothing was done. Try again in a moment.",
    ),
    grpc.StatusCode.UNIMPLEMENTED: (
        502,
        "The {service} does not know this",
        "It is of another version than the console: run both in one version.",
    ),
}
_NO_PAGE = "Its address is wrong, or this console may only look: then it has no pages that change something."
_OTHERWISE = (502, "The {service} failed", "Its log says why.")


def page_of_call(request: web.Request, error: CallFailedError) -> web.Response:
    """Say why a call failed and what to do."""
    status, title, remedy = _CALLS.get(error.code, _OTHERWISE)
    words = {"service": error.service, "variable": error.service.upper()}
    return render(
        request,
        "failure.html",
        status=status,
        title=title.format(**words),
        remedy=remedy.format(**words),
        lines=error.lines,
    )


def failure_page(request: web.Request, status: int, text: str) -> web.Response:
    """Say why the console itself does not do what was asked."""
    titles = {403: "Not from here", 404: "There is no such page", 413: "This is too much at once"}
    phrase = HTTPStatus(status).phrase
    title = titles.get(status, phrase)
    if text == f"{status}: {phrase}":  # nobody said more
        text = _NO_PAGE if status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED) else "Nothing was done."
    return render(request, "failure.html", status=status, title=title, remedy=text, lines=[])
