"""Take the pictures of docs/console: the console on the local system, on a desktop and on a phone, light and dark.

    .venv/bin/python tools/picture_console.py      needs Chromium; CHROMIUM names it if it is not on the PATH

It starts the local system on free ports and an empty folder, lets enough happen that there is something to see, invents
the hour before, and stops it again: about a minute. Where there is pngquant, it makes the pictures small.
"""

import asyncio
import os
import random
import shutil
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import asyncpg
import grpc
from playwright.async_api import Browser, async_playwright

from sred.email.v1 import email_pb2
from sred.email.v1.dispatch_service_pb2 import BatchSendEmailsRequest, SendEmailRequest
from sred.email.v1.dispatch_service_pb2_grpc import EmailDispatchServiceStub
from sred.email.v1.operations_service_pb2 import PauseDeliveryRequest, ResumeDeliveryRequest
from sred.email.v1.operations_service_pb2_grpc import EmailOperationsServiceStub
from sred_email_local.ports import LOOPBACK, free_port
from sred_email_local.settings import Ports, read_settings
from sred_email_local.stack import Stack, running_stack
from sred_email_operator.connection import aio_channel_to
from sred_email_operator.console.app import running_console
from sred_email_operator.console.settings import ConsoleSettings

PICTURES = Path(__file__).resolve().parents[1] / "docs" / "console"
TOKEN = "the-token-of-the-pictures"  # noqa: S105 - of a system that lives for a minute
DESKTOP, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}
SUBJECTS = ("Your invoice for March", "Reset your password", "Welcome aboard", "Your plan has changed")
WAVES = 12
Channels = tuple[grpc.aio.Channel, grpc.aio.Channel]


async def main() -> int:
    """Take all pictures; the exit code."""
    chromium = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        print("no Chromium on the PATH: name it with CHROMIUM=…", file=sys.stderr)
        return 1
    PICTURES.mkdir(exist_ok=True)
    async with _system() as (console, channels, stack):
        await _let_something_happen(channels, stack)
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for name, path, size, scheme in (
                ("overview-light", "/", DESKTOP, "light"),
                ("overview-dark", "/", DESKTOP, "dark"),
                ("overview-phone", "/", PHONE, "dark"),
                ("email-light", "", DESKTOP, "light"),
                ("emails-phone", "/emails", PHONE, "light"),
            ):
                await _take(browser, console + path, (size, scheme), PICTURES / f"{name}.png")
            await _revoke_the_key(channels, stack)
            await _take(browser, console + "/", (DESKTOP, "light"), PICTURES / "misconfigured-light.png")
            await browser.close()
    return 0


@asynccontextmanager
async def _system() -> AsyncIterator[tuple[str, Channels, Stack]]:
    folder = Path(tempfile.mkdtemp(prefix="sred-email-pictures-"))
    ports = {f"SRED_EMAIL_LOCAL_{name.upper()}_PORT": "0" for name in Ports.__dataclass_fields__}
    settings = read_settings({**os.environ, **ports, "SRED_EMAIL_LOCAL_FOLDER": str(folder)})
    console = ConsoleSettings(port=free_port(), token=TOKEN)
    async with running_stack(settings, folder / "up", print) as stack:
        os.environ["SRED_EMAIL_TOKEN"] = stack.token
        ingress = f"{LOOPBACK}:{settings.ports.ingress_grpc}"
        consumer = f"{LOOPBACK}:{settings.ports.consumer_grpc}"
        async with (
            running_console(console, ingress, consumer),
            aio_channel_to(ingress) as to_ingress,
            aio_channel_to(consumer) as to_consumer,
        ):
            yield f"http://{LOOPBACK}:{console.port}", (to_ingress, to_consumer), stack
    shutil.rmtree(folder, ignore_errors=True)


async def _let_something_happen(channels: Channels, stack: Stack) -> None:
    dispatch, operations = EmailDispatchServiceStub(channels[0]), EmailOperationsServiceStub(channels[1])
    sandbox = f"http://{LOOPBACK}:{stack.settings.ports.sandbox}"
    refusal = {"status": 422, "name": "validation_error", "message": "The `to` address is not one.", "times": 7}
    await _rules(sandbox, refusal)
    for wave in range(WAVES):
        requests = [_request(wave * 100 + number) for number in range(20)]
        await dispatch.BatchSendEmails(BatchSendEmailsRequest(requests=requests), timeout=10)
        await asyncio.sleep(1)
    pause = PauseDeliveryRequest(priority=email_pb2.PRIORITY_LOW, reason="a newsletter went out twice")
    await operations.PauseDelivery(pause, timeout=10)
    low = [_request(100_000 + number, priority=email_pb2.PRIORITY_LOW) for number in range(240)]
    await dispatch.BatchSendEmails(BatchSendEmailsRequest(requests=low), timeout=10)
    await _invent_an_hour(stack.postgres_dsn)


async def _revoke_the_key(channels: Channels, stack: Stack) -> None:
    """Let the provider refuse the key, and emails wait for that."""
    dispatch, operations = EmailDispatchServiceStub(channels[0]), EmailOperationsServiceStub(channels[1])
    await operations.ResumeDelivery(ResumeDeliveryRequest(), timeout=10)
    sandbox = f"http://{LOOPBACK}:{stack.settings.ports.sandbox}"
    async with (
        aiohttp.ClientSession() as session,
        session.post(f"{sandbox}/_sandbox/api-key", json={"api_key": "re_new"}) as r,
    ):
        r.raise_for_status()
    for wave in range(WAVES):
        requests = [_request(200_000 + wave * 100 + number) for number in range(20)]
        await dispatch.BatchSendEmails(BatchSendEmailsRequest(requests=requests), timeout=10)
        await asyncio.sleep(1)


async def _invent_an_hour(dsn: str) -> None:
    """Write counts of the minutes before: a steady hour, in which the provider was away for seven minutes."""
    chance, rows = random.Random(7), []  # noqa: S311 - a drawing
    now = datetime.now(UTC).replace(second=0, microsecond=0)
    waited = 0
    for back in range(60, 0, -1):
        minute, accepted = now - timedelta(minutes=back), 420 + chance.randrange(160)
        away = 24 <= back <= 30  # noqa: PLR2004 - said above
        sent = 0 if away else accepted + waited
        waited = waited + accepted if away else 0
        rows.append((minute, "ACCEPTED", 0, accepted))
        slow = 18 if sent > accepted else 0
        for bucket, share in ((20, 0.2), (22, 0.5), (24, 0.27), (28 + chance.randrange(3), 0.03)):
            if sent:
                rows.append((minute, "SENT", bucket + slow, max(1, round(sent * share))))
    connection = await asyncpg.connect(dsn)
    statement = "INSERT INTO email_minutes VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING"
    await connection.executemany(statement, rows)
    await connection.close()


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
