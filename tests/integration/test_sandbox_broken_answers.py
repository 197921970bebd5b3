"""Answers of the sandbox that are no whole HTTP, or take too long."""

import asyncio

import aiohttp
import pytest

from sred_email_local.sandbox.rules import Action, Rule
from sred_email_local.sandbox.server import SandboxServer

HEADERS = {"authorization": "Bearer re_test", "user-agent": "tests"}
EMAIL = {"from": "a@b.example", "to": ["ada@example.com"], "subject": "Hello", "text": "text"}


async def post(sandbox: SandboxServer, *, timeout_s: float = 5) -> tuple[int, bytes]:
    async with (
        aiohttp.ClientSession(headers=HEADERS, timeout=aiohttp.ClientTimeout(total=timeout_s)) as http,
        http.post(f"{sandbox.url}/emails", json=EMAIL) as response,
    ):
        return response.status, await response.read()


async def test_raw_text_goes_over_the_connection_as_it_is(sandbox: SandboxServer) -> None:
    sandbox.provider.rules.replace(
        [Rule(action=Action.ACCEPT_THEN_RAW, text="HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n\xff\x00!")]
    )
    assert await post(sandbox) == (200, b"\xff\x00!")
    assert len(sandbox.provider.mailbox) == 1


async def test_raw_text_that_ends_too_soon_is_a_connection_closed_half_way(sandbox: SandboxServer) -> None:
    sandbox.provider.rules.replace(
        [Rule(action=Action.ACCEPT_THEN_RAW, text='HTTP/1.1 200 OK\r\nContent-Length: 40\r\n\r\n{"id": "')]
    )
    with pytest.raises(aiohttp.ClientPayloadError):
        await post(sandbox)
    assert len(sandbox.provider.mailbox) == 1


async def test_an_answer_that_drips_comes_whole_to_those_who_wait(sandbox: SandboxServer) -> None:
    sandbox.provider.rules.replace([Rule(action=Action.ACCEPT_THEN_DRIP, delay_s=0.001)])
    began = asyncio.get_running_loop().time()
    status, body = await post(sandbox)
    assert (status, body[:7]) == (200, b'{"id": ')
    assert asyncio.get_running_loop().time() - began >= 0.001 * len(body)
    sandbox.provider.rules.replace([Rule(action=Action.ACCEPT_THEN_DRIP, delay_s=0.02)])
    with pytest.raises(TimeoutError):
        await post(sandbox, timeout_s=0.2)
