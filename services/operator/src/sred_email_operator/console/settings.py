"""What the environment says about the console. The only place of it that reads it."""

import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import urlsplit

PREFIX = "SRED_EMAIL_CONSOLE_"
DEFAULT_LISTEN = "127.0.0.1:8082"
SHORTEST_TOKEN = 16
_LISTEN = re.compile(r"(\[[0-9a-fA-F:]+\]|[^:\[\]\s]+):(\d{1,5})")
_HEADER = re.compile(r"[A-Za-z0-9-]{1,100}")
_BOOLS = {
    "": False,
    "0": False,
    "false": False,
    "no": False,
    "off": False,
    "1": True,
    "true": True,
    "yes": True,
    "on": True,
}
_PORTS = range(1, 65_536)
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_MADE_BYTES = 24


class Login(Enum):
    """How the console knows who is there."""

    TOKEN = "token"  # noqa: S105 - no token, the word for it
    PROXY = "proxy"
    OFF = "off"


class SettingsError(Exception):
    """Variables of the environment are wrong; the message has one line for each."""


@dataclass(frozen=True, slots=True)
class ConsoleSettings:
    """How the console runs.

    Attributes:
        host: Where it listens.
        port: The same.
        login: How it knows who is there.
        token: What has to be shown, for ``Login.TOKEN``; empty otherwise.
        user_header: Names who is there, for ``Login.PROXY``; empty otherwise.
        read_only: Whether nothing can be changed.
        public_url: Where browsers see it, scheme and host; empty: as they ask for it.
        token_is_made: Whether nobody named a token, and it is one of this run, for whoever started it.
    """

    host: str = "127.0.0.1"
    port: int = 8082
    login: Login = Login.TOKEN
    token: str = ""
    user_header: str = ""
    read_only: bool = False
    public_url: str = ""
    token_is_made: bool = False

    @property
    def secure(self) -> bool:
        """Whether browsers come by HTTPS, as far as is known."""
        return self.public_url.startswith("https://")


def read_settings(environment: Mapping[str, str]) -> ConsoleSettings:
    """Read the environment.

    Raises:
        SettingsError: Names every variable that is wrong; no value is in it.
    """
    reading = _Reading(environment)
    host, port = reading.listen()
    login = reading.login()
    named = reading.token(required=host not in _LOOPBACK) if login is Login.TOKEN else ""
    makes_one = login is Login.TOKEN and not named
    settings = ConsoleSettings(
        host=host,
        port=port,
        login=login,
        token=secrets.token_urlsafe(_MADE_BYTES) if makes_one else named,
        token_is_made=makes_one,
        user_header=reading.user_header() if login is Login.PROXY else "",
        read_only=reading.read_only(),
        public_url=reading.public_url(),
    )
    if reading.problems:
        raise SettingsError("\n".join(reading.problems))
    return settings


class _Reading:
    """Reads one variable after the other, and collects what is wrong."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        self.problems: list[str] = []

    def listen(self) -> tuple[str, int]:
        match = _LISTEN.fullmatch(self._value("LISTEN") or DEFAULT_LISTEN)
        if match is None or int(match[2]) not in _PORTS:
            self._wrong("LISTEN", f"must be host:port, for example {DEFAULT_LISTEN}")
            return "", 0
        return match[1].strip("[]"), int(match[2])

    def login(self) -> Login:
        text = self._value("LOGIN") or Login.TOKEN.value
        try:
            return Login(text.lower())
        except ValueError:
            self._wrong("LOGIN", "must be token, proxy or off")
            return Login.OFF

    def token(self, *, required: bool) -> str:
        token, file = self._value("TOKEN"), self._value("TOKEN_FILE")
        if token and file:
            self._wrong("TOKEN", f"is set, and {PREFIX}TOKEN_FILE, too: unset one of them")
        elif file:
            token = self._read(file)
        elif not token and required:
            self._wrong(
                "TOKEN",
                f"or {PREFIX}TOKEN_FILE is required: what operators log in with, such as `openssl rand -hex 32` makes. "
                f"Behind a proxy that logs people in, say {PREFIX}LOGIN=proxy",
            )
        if token and len(token) < SHORTEST_TOKEN:
            self._wrong("TOKEN", f"must have {SHORTEST_TOKEN} characters or more")
        return token

    def user_header(self) -> str:
        name = self._value("USER_HEADER")
        if not _HEADER.fullmatch(name):
            self._wrong(
                "USER_HEADER",
                f"must name the header in which the proxy says who is logged in, for {PREFIX}LOGIN=proxy; for example "
                "X-Forwarded-User",
            )
        return name

    def read_only(self) -> bool:
        wanted = _BOOLS.get(self._value("READ_ONLY").lower())
        if wanted is None:
            self._wrong("READ_ONLY", "must be true or false")
        return bool(wanted)

    def public_url(self) -> str:
        url = self._value("PUBLIC_URL").rstrip("/")
        try:
            parts = urlsplit(url)
        except ValueError:
            parts = urlsplit("wrong:")
        if url and (parts.scheme not in ("http", "https") or not parts.netloc or parts.path or parts.query):
            self._wrong(
                "PUBLIC_URL", "must be scheme and host as browsers see them, for example https://email.example.com"
            )
        return url.lower()

    def _read(self, file: str) -> str:
        try:
            token = Path(file).read_text(encoding="utf-8").strip()
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            self._wrong("TOKEN_FILE", f"the file can't be read: {reason}")
            return ""
        if not token:
            self._wrong("TOKEN_FILE", "the file is empty")
        return token

    def _value(self, name: str) -> str:
        return self._environment.get(PREFIX + name, "").strip()

    def _wrong(self, name: str, problem: str) -> None:
        self.problems.append(f"{PREFIX}{name}: {problem}")
