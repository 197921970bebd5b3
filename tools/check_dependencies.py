"""Tell whether each package names what it imports, and nothing else. Part of ``make check``."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DEPTRY = Path(sys.executable).parent / "deptry"
NAMES = "sred-email-client=sred|sred_email_client,googleapis-common-protos=google,protobuf=google"
"""Modules of packages that are called otherwise, where an editable install does not tell."""


def main(packages: list[str]) -> int:
    """Look at these packages; the exit code: 0 if all is well, otherwise 1."""
    return max(_look_at(package) for package in packages)


def _look_at(package: str) -> int:
    own = ["--known-first-party", "sred"] if package == "shared/client" else ["--package-module-name-map", NAMES]
    command = [str(DEPTRY), "--no-ansi", "src", *own]
    found = subprocess.run(command, cwd=ROOT / package, capture_output=True, text=True, check=False)
    if found.returncode:
        print(f"{package}/pyproject.toml:\n{found.stderr}", file=sys.stderr)
    return min(found.returncode, 1)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
