"""Run the sandbox: ``python -m sred_email_local.sandbox --port 8025``."""

import argparse
import asyncio
import os
import signal
import sys

from sred_email_local.ports import LOOPBACK
from sred_email_local.sandbox.provider import Options
from sred_email_local.sandbox.server import SandboxServer


async def serve(server: SandboxServer) -> None:
    """Serve until SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with server:
        print(f"sandbox: API and inbox at {server.url}/", flush=True)
        await stop.wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(
        prog="python -m sred_email_local.sandbox", description="A stand-in for Resend, with an inbox page."
    )
    parser.add_argument("--host", default=LOOPBACK, help="interface to listen on (default: %(default)s)")
    parser.add_argument("--port", type=int, default=8025, help="port to listen on (default: %(default)s)")
    parser.add_argument("--rate", type=int, default=10, help="requests per second, 0 for no limit (default: 10)")
    parser.add_argument("--api-key", help="the only API key that is right (default: any)")
    parser.add_argument("--keep", type=int, default=10_000, help="newest emails kept (default: %(default)s)")
    args = parser.parse_args()
    options = Options(requests_per_second=args.rate, api_key=args.api_key, most_emails=args.keep)
    try:
        asyncio.run(serve(SandboxServer(args.port, options=options, host=args.host)))
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else str(error)
        sys.exit(f"sandbox: cannot listen on {args.host}:{args.port}: {reason}")


if __name__ == "__main__":
    main()
