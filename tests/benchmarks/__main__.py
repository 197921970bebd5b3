"""Measures the table of docs/performance.md: make bench ARGS='drain_batched limits --runs 3'."""

import argparse
import asyncio
import os
import platform
import time
from pathlib import Path

from benchmarks import rows_beyond  # noqa: F401 - its rows are among ROWS then
from benchmarks.figures import Measured
from benchmarks.report import show, write_json, write_markdown, write_plot
from benchmarks.rows import ROWS, Size
from benchmarks.stage import open_stage
from rich.console import Console
from rich.progress import Progress

_QUICK = Size(runs=1, seconds=2, share=0.1)


async def measure(names: list[str], size: Size, console: Console) -> list[Measured]:
    """Measure rows, one after the other."""
    measured: list[Measured] = []
    with Progress(console=console) as progress:
        task = progress.add_task("", total=len(names))
        for name in names:
            progress.update(task, description=f"{name:<16}")
            async with open_stage() as stage:
                measured += await ROWS[name](stage, size)
            progress.advance(task)
    return measured


def main() -> None:
    """Measure, show, write."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("rows", nargs="*", help=f"of {', '.join(ROWS)}; none: all")
    parser.add_argument("--runs", type=int, default=5, help="of each row: the median is shown (5)")
    parser.add_argument("--seconds", type=float, default=8, help="of calls in a run (8)")
    parser.add_argument("--quick", action="store_true", help="once each, with little: to see that it works")
    parser.add_argument(
        "--json", type=Path, default=Path(".local/bench.json"), help="file to write (.local/bench.json)"
    )
    parser.add_argument("--plot", type=Path, help="SVG file to draw")
    parser.add_argument("--markdown", type=Path, help="file to write the table to, as docs/performance.md has it")
    options = parser.parse_args()
    unknown = [name for name in options.rows if name not in ROWS]
    if unknown:
        parser.error(f"there is no row {unknown[0]}; rows are {', '.join(ROWS)}")
    console = Console()
    size = _QUICK if options.quick else Size(options.runs, options.seconds, 1.0)
    began_s = time.monotonic()
    rows = asyncio.run(measure(options.rows or list(ROWS), size, console))
    about = {
        "at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "took_s": round(time.monotonic() - began_s),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "runs": size.runs,
    }
    show(rows, console)
    write_json(rows, about, options.json)
    console.print(f"written to {options.json}")
    if options.plot:
        write_plot(rows, options.plot)
    if options.markdown:
        write_markdown(rows, options.markdown)


if __name__ == "__main__":
    main()
