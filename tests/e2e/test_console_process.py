"""The console as a process: what its start says, and that it ends while people watch."""

import signal
import sys
from pathlib import Path

import aiohttp
import pytest

from sred_email_local.ports import free_port
from sred_email_local.process import Process
from support.world import until

TOKEN = "a-token-for-a-process"
PROGRAM = Path(sys.executable).parent / "sred-email"


@pytest.mark.parametrize(
    ("environment", "names"),
    [
        ({"SRED_EMAIL_CONSOLE_LISTEN": "0.0.0.0:1"}, ["SRED_EMAIL_CONSOLE_TOKEN"]),
        ({"SRED_EMAIL_CONSOLE_LOGIN": "x", "SRED_EMAIL_CONSOLE_LISTEN": "x"}, ["_LISTEN", "_LOGIN"]),
    ],
)
async def test_bad_settings_end_the_start_with_a_line_for_each(
    tmp_path: Path, environment: dict[str, str], names: list[str]
) -> None:
    process = Process("console", [PROGRAM, "console"], env=environment, log=tmp_path / "console.log")
    process.start()
    assert await process.wait(60) == 2
    lines = process.log.read_text().splitlines()
    assert len(lines) == len(names)
    assert all(name in line for name, line in zip(names, lines, strict=True))


async def test_it_ends_at_once_while_somebody_watches_and_shows_that_the_services_are_away(tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{(port := free_port())}"
    environment = {
        "SRED_EMAIL_CONSOLE_TOKEN": TOKEN,
        "SRED_EMAIL_CONSOLE_LISTEN": f"127.0.0.1:{port}",
        "SRED_EMAIL_INGRESS_ADDRESS": f"127.0.0.1:{free_port()}",
        "SRED_EMAIL_CONSUMER_ADDRESS": f"127.0.0.1:{free_port()}",
    }
    process = Process("console", [PROGRAM, "console"], env=environment, log=tmp_path / "console.log")
    process.start()
    async with aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as session:

        async def ready() -> bool:
            assert process.alive, process.log_tail()
            try:
                async with session.get(f"{url}/readyz") as response:
                    return response.ok
            except aiohttp.ClientError:
                return False

        await until(ready, "the console is ready", timeout_s=60)
        form = {"token": TOKEN, "name": "Ada", "to": "//evil.example"}
        async with session.post(f"{url}/login", data=form, headers={"Origin": url}) as response:
            assert str(response.url) == f"{url}/"
            assert "The consumer does not say how it is." in await response.text()
        async with session.get(f"{url}/overview/events") as watching:
            assert watching.headers["Content-Type"] == "text/event-stream"
            assert b"event: news" in await watching.content.readuntil(b"\n")
            process.send_signal(signal.SIGTERM)
            assert await process.wait(20) == 0
    assert TOKEN not in process.log.read_text()
