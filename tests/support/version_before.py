"""The code of a version before this one, as the repository's history has it."""

import io
import os
import subprocess
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
VERSION_BEFORE = "35fe9b665b1655495292fb14148522d07da6847c"
"""The commit whose services are upgraded while they work: the newest release, once there is one."""
_PACKAGES = ("shared/client", "shared/core", "shared/templates", "services/ingress", "services/consumer")


def unpack_version_before(folder: Path) -> str:
    """Write its packages into a folder; what PYTHONPATH must be for the services' programs to run them.

    Skips the test where there is no history, as in a copy of the tree.
    """
    command = ["git", "-C", str(ROOT), "archive", "--format=tar", VERSION_BEFORE, "--", *_PACKAGES]
    try:
        done = subprocess.run(command, capture_output=True, check=True)  # noqa: S603 - git, with literals
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("the history of the repository is not here: clone it with all of its commits")
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder, filter="data")
    return os.pathsep.join(str(folder / package / "src") for package in _PACKAGES)
