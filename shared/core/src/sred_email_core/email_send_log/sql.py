"""The SQL files, read once."""

import importlib.resources
from functools import cache
from typing import NamedTuple

_CONCURRENTLY = "-- concurrently"
_FOLDER = importlib.resources.files("sred_email_core.email_send_log")


@cache
def query(name: str) -> str:
    """The text of ``queries/<name>.sql``."""
    return (_FOLDER / "queries" / f"{name}.sql").read_text()


class Migration(NamedTuple):
    """A file of ``migrations/``."""

    version: int
    name: str
    text: str

    @property
    def concurrently(self) -> bool:
        """Whether its statements run outside a transaction, so that nobody waits for them."""
        return _CONCURRENTLY in self.text.splitlines()

    @property
    def statements(self) -> list[str]:
        """What it says, one by one, without its comments."""
        lines = (line for line in self.text.splitlines() if not line.startswith("--"))
        return [statement.strip() for statement in "\n".join(lines).split(";") if statement.strip()]


@cache
def migrations() -> list[Migration]:
    """Each file in ``migrations/``, in order."""
    found = [
        Migration(int(file.name.split("_", 1)[0]), file.name.removesuffix(".sql"), file.read_text())
        for file in (_FOLDER / "migrations").iterdir()
        if file.name.endswith(".sql")
    ]
    return sorted(found)
