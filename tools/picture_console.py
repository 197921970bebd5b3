"""Take the pictures of docs/console: the console on the local system, on a desktop and on a phone, light and dark.

    .venv/bin/python tools/picture_console.py      needs Chromium; CHROMIUM names it if it is not on the PATH

It starts the local system on free ports and an empty folder, lets enough happen that there is something to see, and
stops it again; a minute and a half. Where there is pngquant, it makes the pictures small.
"""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import grpc
from playwright.async_api import Browser, async_playwright

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, SendEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2 import PauseDeliveryRequest
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.settings import Ports, read_settings
from sred_email_local.stack import running_stack
from sred_email_operator.console.app import running_console
from sred_email_operator.console.settings import ConsoleSettings

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "console"
TOKEN = "the-token-of-the-pictures"  # noqa: S105 - of a system that lives for a minute
DESKTOP, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
SUBJECTS = ("Your invoice for March", "Reset your password", "Welcome aboard", "Your plan has changed")
MINUTES = 3


async def main() -> int:
    """Take all pictures; the exit code."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on the PATH: name it with CHROMIUM=…", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    async with _system() as (console, channels, sandbox):
        await _let_something_happen(*channels, sandbox)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, path, size, scheme in (
                ("overview-light", "/", DESKTOP, "light"),
                ("overview-dark", "/", DESKTOP, "dark"),
                ("overview-phone", "/", PHONE, "dark"),
                ("email-light", "", DESKTOP, "light"),
                ("letters-light", "/dead-letters", DESKTOP, "light"),
                ("emails-phone", "/emails", PHONE, "light"),
            ):
                await _take(browser, console + path, (size, scheme), PICTURES / f"{name}.png")
            await browser.close()
    return 0


@asynccontextmanager
async def _system() -> AsyncIterator[tuple[str, tuple[grpc.aio.Channel, grpc.aio.Channel], str]]:
    folder = Path(tempfile.mkdtemp(prefix="sred-email-pictures-"))
    ports = {f"SRED_EMAIL_LOCAL_{name.upper()}_PORT": "0" for name in Ports.__dataclass_fields__}
    settings = read_settings({**os.environ, **ports, "SRED_EMAIL_LOCAL_FOLDER": str(folder)})
    console = ConsoleSettings(port=free_port(), token=TOKEN)
    async with running_stack(settings, folder / "up", print):
        ingress = f"{LOOPBACK}:{settings.ports.ingress_grpc}"
        consumer = f"{LOOPBACK}:{settings.ports.consumer_grpc}"
        async with (
            running_console(console, ingress, consumer),
            grpc.aio.insecure_channel(ingress) as to_ingress,
            grpc.aio.insecure_channel(consumer) as to_consumer,
        ):
            url = f"http://{LOOPBACK}:{console.port}"
            yield url, (to_ingress, to_consumer), f"http://{LOOPBACK}:{settings.ports.sandbox}"
    shutil.rmtree(folder, ignore_errors=True)


async def _let_something_happen(ingress: grpc.aio.Channel, consumer: grpc.aio.Channel, sandbox: str) -> None:
    dispatch, operations = EmailDispatchServiceStub(ingress), EmailOperationsServiceStub(consumer)
    ends, wave = time.monotonic() + MINUTES * 60, 0
    await _rules(
        sandbox, {"status": 422, "name": "validation_error", "message": "The `to` address is not one.", "times": 7}
    )
    while time.monotonic() < ends:
        requests = [_request(wave * 100 + number) for number in range(20 + 15 * (wave % 5))]
        await dispatch.BatchSendEmails(BatchSendEmailsRequest(requests=requests), timeout=10)
        wave += 1
        await asyncio.sleep(4)
        if wave == 20:  # noqa: PLR2004 - in the midst of it
            await _rules(sandbox, {"status": 500, "name": "internal_server_error", "message": "Try later.", "times": 3})
    pause = PauseDeliveryRequest(priority=email_pb2.PRIORITY_LOW, reason="a newsletter went out twice")
    await operations.PauseDelivery(pause, timeout=10)
    low = [_request(100_000 + number, priority=email_pb2.PRIORITY_LOW) for number in range(240)]
    await dispatch.BatchSendEmails(BatchSendEmailsRequest(requests=low), timeout=10)


async def _rules(sandbox: str, *rules: dict[str, object]) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/_sandbox/rules", json={"rules": rules}) as r,
    ):
        r.raise_for_status()


def _request(
    number: int, *, priority: "email_pb2.Priority.ValueType" = email_pb2.PRIORITY_UNSPECIFIED
) -> SendEmailRequest:
    request = SendEmailRequest(
        idempotency_key=f"picture-{uuid.uuid4()}",
        kind=email_pb2.EmailKind.ValueType(number % 6 + 1),
        priority=priority,
        to=[f"customer{number % 83}@example.com"],
    )
    request.inline.subject = SUBJECTS[number % len(SUBJECTS)]
    request.inline.text = "Hello"
    return request


async def _take(browser: Browser, url: str, how: tuple[dict[str, int], str], picture: Path) -> None:
    size, scheme = how
    context = await browser.new_context(viewport=size, color_scheme=scheme, device_scale_factor=1)  # type: ignore[arg-type]
    page = await context.new_page()
    await page.goto(url + ("/emails?status=FAILED" if url.count("/") == 2 else ""))  # noqa: PLR2004 - one email
    await page.get_by_label("Your name").fill("Grace")
    await page.get_by_label("Token").fill(TOKEN)
    await page.get_by_role("button", name="Log in").click()
    await page.get_by_role("heading", level=1).wait_for()
    if url.count("/") == 2:  # noqa: PLR2004 - the same
        await page.locator("tbody a").first.click()
    await page.screenshot(path=picture, full_page=size["width"] == DESKTOP["width"])
    await context.close()
    _shrink(picture)


def _shrink(picture: Path) -> None:
    pngquant = shutil.which("pngquant")
    if pngquant is not None:
        subprocess.run([pngquant, "--force", "--ext", ".png", "--strip", "64", str(picture)], check=True, timeout=60)
    print(f"{picture} {picture.stat().st_size // 1024} kB")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
