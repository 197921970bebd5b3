"""``up``: everything runs until it is told to stop."""

import asyncio
import sys
from collections.abc import Sequence

from sred_email_local.follow import LogFollower, followers
from sred_email_local.ports import LOOPBACK
from sred_email_local.sending import send_samples
from sred_email_local.settings import LocalSettings
from sred_email_local.stack import CONSUMER, INGRESS, Stack, running_stack

_POLL_S = 0.1


def say(text: str) -> None:
    """Print at once, also into a pipe."""
    print(text, flush=True)


async def run_up(settings: LocalSettings) -> int:
    """Start everything, send the samples, say where to look, and show the logs until cancelled.

    Raises:
        ProcessError: A child ended by itself; everything else is stopped.
    """
    async with running_stack(settings, settings.folder / "up", say, console=True) as stack:
        following = _follow_services(stack)
        address = f"{LOOPBACK}:{settings.ports.ingress_grpc}"
        await send_samples(address, stack.token, sandbox=settings.uses_sandbox)
        say(where_to_look(stack))
        await _show_logs(stack, following)
    return 0


def where_to_look(stack: Stack) -> str:
    """The addresses, for a person."""
    settings, ports = stack.settings, stack.settings.ports
    emails = f"http://{LOOPBACK}:{ports.sandbox}/" if settings.uses_sandbox else "they go out through Resend itself"
    console = f"http://{LOOPBACK}:{ports.console}/"
    places = {
        "emails": emails,
        "console": f"{console} (its token: {stack.console_token})" if stack.console_token else console,
        "ingress": f"http://{LOOPBACK}:{ports.ingress_http}/readyz",
        "consumer": f"http://{LOOPBACK}:{ports.consumer_http}/readyz",
        "ingress gRPC": f"{LOOPBACK}:{ports.ingress_grpc}",
        "consumer gRPC": f"{LOOPBACK}:{ports.consumer_grpc}",
        "PostgreSQL": stack.postgres_dsn,
        "Valkey": stack.redis_url,
        **({"API key": str(stack.api_key_file)} if settings.uses_sandbox else {}),
    }
    lines = [f"  {name:<15}{place}" for name, place in places.items()]
    head = "Everything runs, and one email of each kind was sent."
    if stack.token:
        lines += ["", "To call it, say this in another terminal first:", "", f"  export SRED_EMAIL_TOKEN={stack.token}"]
    return "\n".join(["", head, "", *lines, "", "Ctrl-C stops all of it. What the services say:", ""])


def _follow_services(stack: Stack) -> Sequence[LogFollower]:
    logs = {process.name: process.log for process in stack.processes if process.name in (INGRESS, CONSUMER)}
    coloured = sys.stdout.isatty() and not stack.settings.environment.get("NO_COLOR")  # see no-color.org
    return followers(logs, coloured=coloured)


async def _show_logs(stack: Stack, following: Sequence[LogFollower]) -> None:
    while True:
        for follower in following:
            for line in follower.new_lines():
                say(line)
        stack.check_alive()
        await asyncio.sleep(_POLL_S)
