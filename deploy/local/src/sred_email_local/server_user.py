"""The user that PostgreSQL runs as when this process is root, which PostgreSQL refuses to be."""

import os
import pwd
import shutil
import stat
import subprocess
from pathlib import Path

from sred_email_local.embedded import EngineMissingError, pgserver_utils

USER = "pgserver"
_TRAVERSE = stat.S_IXGRP | stat.S_IXOTH
_READ = stat.S_IRGRP | stat.S_IROTH


def server_user() -> str | None:
    """The user to run PostgreSQL as: None for the present one, which is right unless that is root.

    Raises:
        EngineMissingError: This is root, and the user can't be made.
    """
    if os.geteuid() != 0:
        return None
    try:
        pgserver_utils().ensure_user_exists(USER)
    except (OSError, subprocess.CalledProcessError) as error:
        message = f"PostgreSQL refuses to run as root, and a user {USER} for it could not be made: {error}"
        raise EngineMissingError(message) from error
    return USER


def give_folder(folder: Path, user: str) -> None:
    """Make a folder and all in it the user's, and let the user reach it (its parents are opened for passing only)."""
    entry = pwd.getpwnam(user)
    for path in (folder, *folder.rglob("*")):
        shutil.chown(path, entry.pw_uid, entry.pw_gid)
    _open_parents(folder)


def open_programs(binaries: Path) -> None:
    """Let every user run the programs of a PostgreSQL installation and read its libraries and shared files.

    Args:
        binaries: Its `bin` folder; `lib` and `share` lie beside it.
    """
    installation = binaries.resolve().parent
    _open_parents(installation)
    for path in (installation, *installation.rglob("*")):
        if path.stat().st_uid == os.geteuid():
            executable = path.is_dir() or bool(path.stat().st_mode & stat.S_IXUSR)
            _allow(path, _READ | _TRAVERSE if executable else _READ)


def _open_parents(path: Path) -> None:
    for parent in path.resolve().parents:
        _allow(parent, _TRAVERSE)


def _allow(path: Path, bits: int) -> None:
    mode = path.stat().st_mode
    if mode & bits != bits:
        path.chmod(mode | bits)
