"""The night on which the provider's key was revoked: what operators see of it, and that it costs no email anything."""

import asyncio
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import aiohttp
from e2e.test_log_of_an_email import lines_of, number
from e2e.test_provider_weather import reached

from sred.email.v1.operations_service_pb2 import DispatchState
from sred_email_local.ports import LOOPBACK, free_port
from sred_email_operator.console.app import running_console
from sred_email_operator.console.settings import ConsoleSettings, Login
from support.world import Service, World, until

ROOT = Path(__file__).resolve().parents[2]
STATE = 'sred_email_consumer_dispatch_state{state="MISCONFIGURED"}'


async def sred_email(world: World, consumer: Service, *arguments: str) -> str:
    """What the command line says. Beside the loop: the provider lives in it."""
    env = {**os.environ, **world.env, "SRED_EMAIL_CONSUMER_ADDRESS": consumer.address}
    command = [str(Path(sys.executable).parent / "sred-email"), *arguments]
    process = await asyncio.create_subprocess_exec(*command, env=env, stdout=asyncio.subprocess.PIPE)
    said, _ = await process.communicate()
    assert process.returncode == 0
    return bytes(said).decode()


@asynccontextmanager
async def console(ingress: Service, consumer: Service) -> AsyncIterator[str]:
    """Where the overview of a console is."""
    settings = ConsoleSettings(port=free_port(), login=Login.OFF)
    async with running_console(settings, ingress.address, consumer.address):
        yield f"http://{LOOPBACK}:{settings.port}/"


async def page(url: str) -> str:
    """What the console shows."""
    async with aiohttp.ClientSession() as session, session.get(url) as response:
        assert response.status == 200
        return await response.text()


async def shows(consumer: Service, value: float) -> bool:
    """Whether the metric has a value."""
    return await number(consumer, STATE) == value


async def test_a_revoked_key_is_told_everywhere_and_the_new_file_ends_it_without_an_attempt_spent(
    world: World, tmp_path: Path
) -> None:
    key = tmp_path / "key"
    key.write_text("re_revoked")
    world.env |= {"RESEND_API_KEY_FILE": str(key), "RESEND_API_KEY": ""}
    ingress, consumer = await world.start_pair(timeout_s=60)
    world.sandbox.provider.options = replace(world.sandbox.provider.options, api_key="re_new")
    ids = [(await world.send(f"night {n}")).email_id for n in range(3)]
    await reached(world, DispatchState.DISPATCH_STATE_MISCONFIGURED)

    # Whoever is woken reads the alert, the runbook, the state and the log.
    alerts = (ROOT / "deploy/observability/alerts.yaml").read_text()
    alert = alerts[alerts.index("SredEmailMisconfigured") :]
    assert STATE.removeprefix("sred_email_consumer_") in alert[: alert.index("summary")]
    assert "docs/runbook.md#misconfigured\n" in alert
    runbook = (ROOT / "docs/runbook.md").read_text()
    entry = runbook[runbook.index("### MISCONFIGURED") : runbook.index("### PROVIDER_DOWN")]
    assert {"sred-email resume", "sred-email stats --watch"} <= set(re.findall(r"`(sred-email [^`]+)`", entry))
    await until(lambda: shows(consumer, 1), "the metric says that delivery is stopped")
    assert "API key is invalid" in (await consumer.ready(503))["dispatch_reason"]
    shown = await sred_email(world, consumer, "stats")
    assert "MISCONFIGURED" in shown
    assert "API key is invalid" in shown
    async with console(ingress, consumer) as url:
        stopped = await page(url)
    for words in (
        "MISCONFIGURED",
        "since <time",
        "API key is invalid",
        "RESEND_API_KEY_FILE",
        'href="/delivery/resume"',
    ):
        assert words in stopped
    events = {line["event"]: line for line in lines_of(consumer)}
    assert events["delivery_stopped"]["state"] == "MISCONFIGURED"

    # The provider knows the new key; nothing is restarted.
    key.write_text("re_new")
    for email_id in ids:
        assert await world.wait_for(email_id) == "SUCCESS"
        assert (await world.get_email(email_id)).attempts == 1

    await until(lambda: shows(consumer, 0), "the metric says that delivery goes on")
    await consumer.ready(200)
    async with console(ingress, consumer) as url:
        assert "MISCONFIGURED" not in (running := await page(url))
        assert "Emails are being sent." in running
    assert "delivery_goes_on" in {line["event"] for line in lines_of(consumer)}
    assert await world.pool.fetchval("SELECT count(*) FROM email_dead_letters") == 0
    assert {line["action"] for line in lines_of(consumer) if line["event"] == "attempt_failed"} == set()
