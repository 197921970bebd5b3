"""The provider's HTTP: the sending API, and the control by which tests and people make it fail."""

import asyncio
import socket
import struct
from typing import Final

from aiohttp import web

from sred_email_local.sandbox.provider import BATCH, SINGLE, Answer, Provider, as_json
from sred_email_local.sandbox.refusal import Refusal
from sred_email_local.sandbox.rules import Action, RuleError, read_rules

PROVIDER: Final = web.AppKey("provider", Provider)
MAX_BODY = 40 * 1024 * 1024
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)

routes = web.RouteTableDef()


@routes.post(SINGLE)
@routes.post(BATCH)
async def send(request: web.Request) -> web.StreamResponse:
    """Take one email or a batch."""
    try:
        body = await request.read()
    except web.HTTPRequestEntityTooLarge:
        raise Refusal(413, "payload_too_large", "The request is larger than 40 MB.") from None
    answer = await request.app[PROVIDER].post(request.path, request.headers, body)
    if answer.then is Action.HANG:
        await asyncio.Event().wait()  # until the caller goes away, which cancels this
    if answer.then is Action.RESET:
        _reset_connection(request)
    if answer.then is Action.ACCEPT_THEN_RAW and isinstance(answer.body, str):
        _write_raw(request, answer.body)
    response = _response(answer)
    if answer.then is Action.ACCEPT_THEN_DRIP:
        return await _drip(request, response, answer.pause_s)
    return response


@routes.get("/emails/{id}")
async def retrieve(request: web.Request) -> web.Response:
    """Show an email as the API does."""
    provider = request.app[PROVIDER]
    provider.check_caller(request.headers)
    delivery = provider.mailbox.get(request.match_info["id"])
    if delivery is None:
        raise Refusal(404, "not_found", "Email not found")
    return web.json_response(as_json(delivery))


@routes.post("/_sandbox/rules")
async def set_rules(request: web.Request) -> web.Response:
    """Put other rules in force."""
    try:
        rules = read_rules(await request.json())
    except (ValueError, RuleError) as error:
        raise Refusal(400, "invalid_rules", str(error)) from error
    request.app[PROVIDER].rules.replace(rules)
    return web.json_response({"rules": len(rules)})


@routes.post("/_sandbox/api-key")
async def set_api_key(request: web.Request) -> web.Response:
    """Let one key be right and all others be refused; null: any is right."""
    try:
        body = await request.json()
    except ValueError:
        body = None
    key = body.get("api_key", "") if isinstance(body, dict) else ""
    if not (key is None or (isinstance(key, str) and key)):
        raise Refusal(400, "invalid_api_key", 'the body must be {"api_key": "re_…"}, or null for any key')
    request.app[PROVIDER].replace_api_key(key)
    return web.json_response({})


@routes.get("/_sandbox/requests")
async def list_requests(request: web.Request) -> web.Response:
    """The newest POSTs and what became of them, oldest first."""
    return web.json_response({"requests": request.app[PROVIDER].requests.as_json()})


@routes.get("/_sandbox/deliveries")
async def list_deliveries(request: web.Request) -> web.Response:
    """Which subject was delivered under which ids: more than one id is a double."""
    return web.json_response(request.app[PROVIDER].mailbox.by_subject())


@routes.post("/_sandbox/reset")
async def reset(request: web.Request) -> web.Response:
    """Forget everything."""
    request.app[PROVIDER].reset()
    return web.json_response({})


def _response(answer: Answer) -> web.Response:
    if isinstance(answer.body, str):
        return web.Response(status=answer.status or 200, text=answer.body, headers=answer.headers)
    return web.json_response(answer.body, status=answer.status, headers=answer.headers)


def _write_raw(request: web.Request, text: str) -> None:
    """Answer with these bytes; what aiohttp would write after them finds the connection closed."""
    if request.transport is not None:
        request.transport.write(text.encode("latin-1"))
        request.transport.close()


async def _drip(request: web.Request, response: web.Response, pause_s: float) -> web.StreamResponse:
    """Write a response byte by byte."""
    dripping = web.StreamResponse(status=response.status, headers=response.headers)
    body = response.body if isinstance(response.body, bytes) else b""
    await dripping.prepare(request)
    for position in range(len(body)):
        await asyncio.sleep(pause_s)
        await dripping.write(body[position : position + 1])
    return dripping


def _reset_connection(request: web.Request) -> None:
    transport = request.transport
    if transport is None:
        return
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    transport.abort()
