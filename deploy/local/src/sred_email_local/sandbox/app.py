"""The sandbox's web application: the API and the inbox, and how either says that something is wrong."""

from collections.abc import Awaitable, Callable

from aiohttp import web

from sred_email_local.sandbox import api, inbox
from sred_email_local.sandbox.provider import Provider
from sred_email_local.sandbox.refusal import Refusal

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def build_app(provider: Provider) -> web.Application:
    """The application over a provider."""
    app = web.Application(client_max_size=api.MAX_BODY, middlewares=[_say_what_is_wrong])
    app[api.PROVIDER] = provider
    app.add_routes(api.routes)
    app.add_routes(inbox.routes)
    return app


@web.middleware
async def _say_what_is_wrong(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        return await handler(request)
    except Refusal as refusal:
        problem = refusal
    except web.HTTPNotFound:
        if inbox.owns(request.path):
            return inbox.not_found()
        problem = Refusal(404, "not_found", "The requested endpoint does not exist.")
    except web.HTTPMethodNotAllowed:
        problem = Refusal(405, "method_not_allowed", "Method is not allowed for the requested path.")
    return web.json_response(problem.body(), status=problem.status, headers=problem.headers)
