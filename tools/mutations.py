"""Break the code on purpose, once for each hazard, and see which test notices.

Each mutation is applied to a copy of the workspace, where the tests that should notice are run. Prints a table in
Markdown, as docs/reliability.md keeps it; exits 1 if a mutation went unnoticed.

    .venv/bin/python tools/mutations.py                     all
    .venv/bin/python tools/mutations.py 'fence' 'dissolve'  those whose description holds one of these words
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "tools" / "mutations.toml"
COPIED = ("shared", "services", "deploy", "tests", "docs", "pyproject.toml")
SOURCES = (
    "shared/client",
    "shared/core",
    "shared/templates",
    "services/ingress",
    "services/consumer",
    "services/operator",
    "deploy/local",
)
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


def main(words: list[str]) -> int:
    """Run the mutations whose description holds one of the words; all if there are none."""
    mutations = tomllib.loads(TABLE.read_text())["mutation"]
    chosen = [m for m in mutations if not words or any(word in m["change"] for word in words)]
    chosen.sort(key=lambda m: (not m["hazard"].isdigit(), m["hazard"].rjust(2)))
    unnoticed = 0
    print("| hazard | the code is changed so that | the test that fails |\n| --- | --- | --- |", flush=True)
    for mutation in chosen:
        began = time.monotonic()
        noticed = try_mutation(mutation)
        unnoticed += noticed is None
        test = "**none**" if noticed is None else f"`{noticed.removeprefix('tests/').split('[', maxsplit=1)[0]}`"
        print(f"| {mutation['hazard']} | {mutation['change']} | {test} |", flush=True)
        print(f"{time.monotonic() - began:6.1f} s", file=sys.stderr)
    print(f"{len(chosen) - unnoticed} of {len(chosen)} mutations were noticed", file=sys.stderr)
    return 1 if unnoticed else 0


def try_mutation(mutation: dict[str, str]) -> str | None:
    """The first test that fails with a mutation; None: none does."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(source, copy / name)
        file = copy / mutation["file"]
        text = file.read_text()
        if text.count(mutation["old"]) != 1:
            raise SystemExit(f"{mutation['change']}: what is to be changed stands {text.count(mutation['old'])} times")
        file.write_text(text.replace(mutation["old"], mutation["new"]))
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(copy / s / "src") for s in SOURCES)}
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *mutation["tests"].split()]
        done = subprocess.run(command, cwd=copy, env=environment, capture_output=True, text=True, check=False)
        failed = FAILED.search(done.stdout)
        if failed is None and done.returncode != 0:
            raise SystemExit(
                f"{mutation['change']}: pytest ended with {done.returncode}\n{done.stdout[-2000:]}{done.stderr}"
            )
        return failed[1] if failed else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
