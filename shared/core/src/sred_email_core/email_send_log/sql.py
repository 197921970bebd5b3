"""The SQL files, read once."""

import importlib.resources
from functools import cache

_FOLDER = importlib.resources.files("sred_email_core.email_send_log")


@cache
def query(name: str) -> str:
    """The text of ``queries/<name>.sql``."""
    return (_FOLDER / "queries" / f"{name}.sql").read_text()


@cache
def migrations() -> list[tuple[int, str, str]]:
    """Version, name and text of each file in ``migrations/``, in order."""
    found = [
        (int(file.name.split("_", 1)[0]), file.name.removesuffix(".sql"), file.read_text())
        for file in (_FOLDER / "migrations").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)
