"""Let everything crash for a while, and count what is lost or doubled: ``make chaos DURATION=600 SEED=1``."""

import argparse
import asyncio
import json
import shutil
import sys
import tempfile
import time
from pathlib import Path

from crash.chaos.options import Options
from crash.chaos.run import run_chaos

_LINE_EVERY_S = 10.0


class Progress:
    """One line, written over on a terminal; elsewhere one every ten seconds."""

    def __init__(self) -> None:
        self._terminal = sys.stderr.isatty()
        self._next = 0.0

    def __call__(self, line: str) -> None:
        """Show a line."""
        if self._terminal:
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r\x1b[K{line[:width]}")
        elif time.monotonic() >= self._next:
            self._next = time.monotonic() + _LINE_EVERY_S
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()

    def end(self) -> None:
        """Leave the line."""
        if self._terminal:
            sys.stderr.write("\r\x1b[K")


def main() -> int:
    """Read the command line, run, report; 0 only if nothing was lost, doubled, wrong or left over."""
    parser = argparse.ArgumentParser(prog="make chaos", description=__doc__)
    parser.add_argument("--duration", type=float, default=600, help="seconds in which things go wrong (600)")
    parser.add_argument("--seed", type=int, default=1, help="of the faults and the emails (1)")
    parser.add_argument("--rate", type=float, default=80, help="emails a second (80)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where to write the report for programs")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="where to write it for docs/reliability.md")
    parser.add_argument(
        "--folder", type=Path, help="for data and logs (a temporary one; it stays if something is wrong)"
    )
    args = parser.parse_args()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress()
    report = asyncio.run(run_chaos(Options(args.duration, args.seed, args.rate, folder), progress))
    progress.end()
    sys.stdout.write(f"{report.as_text()}\n")
    if args.json:
        args.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    if args.markdown:
        args.markdown.write_text(report.as_markdown() + "\n")
    if not report.ok:
        sys.stdout.write(f"\n  logs of all processes, and what the log knows of the bad emails (bad.txt): {folder}\n")
    elif args.folder is None:
        shutil.rmtree(folder)
    return 0 if report.ok else 1


if __name__ == "__main__":
    sys.exit(main())
