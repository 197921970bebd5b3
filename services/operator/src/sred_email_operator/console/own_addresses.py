"""What is the console's own: the names it is asked by, the origins of its forms, its paths. Pure."""

import re
from urllib.parse import urlsplit

from sred_email_operator.console.settings import ConsoleSettings, Login

_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[^\[\]:@/\\]+)(?::\d{1,5})?")
_THIS_MACHINE = ("localhost", "127.0.0.1", "::1")


class OwnAddresses:
    """Knows what is ours by what the settings say."""

    def __init__(self, settings: ConsoleSettings) -> None:
        self._public_url = settings.public_url
        names = {*_THIS_MACHINE, settings.host.lower(), urlsplit(settings.public_url).hostname or ""}
        self._names = names if settings.login is Login.OFF else None

    def named(self, host: str) -> bool:
        """Whether a Host header may name the console.

        With a login any name may: a cookie, or what the proxy asks for, belongs to one name. Without one, a foreign
        name that resolves to this address would make a foreign page one of ours.
        """
        if self._names is None:
            return True
        match = _HOST.fullmatch(host.lower())
        return match is not None and match[1].strip("[]") in self._names

    def sent(self, origin: str, host: str) -> bool:
        """Whether a form's Origin is ours, on a request to this Host."""
        if self._public_url:
            return origin.lower() == self._public_url
        try:
            return urlsplit(origin).netloc.lower() == host.lower()
        except ValueError:
            return False


def inside(path: str) -> str:
    """The path, if it is one of ours; else the overview."""
    return path if path.startswith("/") and not path.startswith(("//", "/\\")) and path.isprintable() else "/"
