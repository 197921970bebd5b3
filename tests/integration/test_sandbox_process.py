"""The sandbox as the process that a local run starts."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import aiohttp

from sred_email_local.ports import free_port
from sred_email_local.process import Process

EMAIL = {"from": "a@b.example", "to": "ada@example.com", "subject": "Hello", "text": "text"}
HEADERS = {"authorization": "Bearer re_right"}


def sandbox_process(tmp_path: Path, port: int, *arguments: str) -> Process:
    argv = [sys.executable, "-m", "sred_email_local.sandbox", "--port", str(port), *arguments]
    return Process("sandbox", argv, env=os.environ, log=tmp_path / "sandbox.log")


async def until_logged(process: Process, text: str) -> None:
    while True:
        if text in process.log_tail():
            return
        await asyncio.sleep(0.01)


async def test_it_serves_until_sigterm_and_ends_in_good_order(tmp_path: Path) -> None:
    port = free_port()
    process = sandbox_process(tmp_path, port, "--rate", "0", "--api-key", "re_right", "--keep", "1")
    process.start()
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{port}", headers=HEADERS) as http, asyncio.timeout(10):
            await until_logged(process, f"http://127.0.0.1:{port}/")
            for _ in range(2):
                async with http.post("/emails", json=EMAIL) as response:
                    assert response.status == 200
            async with http.get("/_sandbox/deliveries") as response:
                assert [len(ids) for ids in (await response.json()).values()] == [1]
            async with http.post("/emails", json=EMAIL, headers={"authorization": "Bearer x"}) as response:
                assert response.status == 403
            assert await process.stop(signal.SIGTERM) == 0
    finally:
        process.kill()


async def test_a_taken_port_is_said_in_one_line(tmp_path: Path) -> None:
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server:
        process = sandbox_process(tmp_path, port)
        process.start()
        assert await process.wait(10) == 1
    assert process.log_tail() == f"sandbox: cannot listen on 127.0.0.1:{port}: Address already in use"
