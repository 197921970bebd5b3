"""The whole system on this machine: ``python -m sred_email_local up`` or ``demo``."""

import argparse
import asyncio
import io
import os
import signal
import sys
from collections.abc import Awaitable, Callable

import grpc.aio

from sred_email_local.demo import run_demo
from sred_email_local.embedded import EngineMissingError
from sred_email_local.ports import PortTakenError
from sred_email_local.process import ProcessError
from sred_email_local.settings import LocalSettings, SettingsError, read_settings
from sred_email_local.stack import FolderInUseError
from sred_email_local.up import run_up

Command = Callable[[LocalSettings], Awaitable[int]]
_INTERRUPTED = {"up": 0, "demo": 130}


async def run_until_signal(command: Command, settings: LocalSettings, *, interrupted: int) -> int:
    """Run a command; SIGINT and SIGTERM cancel it, and a repeated one shortens the stopping.

    Returns:
        The exit code: the command's, or `interrupted` if a signal ended it.
    """
    running = asyncio.ensure_future(command(settings))
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, running.cancel)
    try:
        return await running
    except asyncio.CancelledError:
        return interrupted


def main() -> None:
    """Read the command line, run, and say in one sentence what went wrong if something did."""
    parser = argparse.ArgumentParser(prog="python -m sred_email_local", description="The system on this machine.")
    commands = parser.add_subparsers(dest="command", required=True)
    commands.add_parser("up", help="run everything until Ctrl-C")
    commands.add_parser("demo", help="send one email of each kind, show what became of them, and stop")
    name = parser.parse_args().command
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # logs may hold what the terminal's encoding does not
    command: Command = run_up if name == "up" else run_demo
    try:
        settings = read_settings(os.environ)
    except SettingsError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    try:
        code = asyncio.run(run_until_signal(command, settings, interrupted=_INTERRUPTED[name]))
    except (PortTakenError, FolderInUseError, EngineMissingError, ProcessError) as error:
        sys.exit(f"{name}: {error}")
    except grpc.aio.AioRpcError as error:
        sys.exit(f"{name}: the ingress answered {error.code().name}: {error.details()}")
    except BrokenPipeError:  # nobody reads any more, e.g. behind `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        code = 1
    sys.exit(code)


if __name__ == "__main__":
    main()
