"""What the environment says about a run on this machine. The only place that reads it."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from sred_email_local.ports import PortUse, free_port

_PREFIX = "SRED_EMAIL_LOCAL_"
_PURPOSES = {
    "ingress_grpc": "the ingress' gRPC",
    "ingress_http": "the ingress' HTTP",
    "consumer_grpc": "the consumer's gRPC",
    "consumer_http": "the consumer's HTTP",
    "console": "the web console",
    "sandbox": "the sandbox provider and its inbox",
    "postgres": "PostgreSQL",
    "valkey": "Valkey",
}
_LAST_PORT = 65_535


class SettingsError(Exception):
    """Variables of the environment are wrong; the message has one line for each."""


@dataclass(frozen=True, slots=True)
class Ports:
    """Where everything listens, on the loopback interface."""

    ingress_grpc: int = 50051
    ingress_http: int = 8080
    consumer_grpc: int = 50052
    consumer_http: int = 8081
    console: int = 8082
    sandbox: int = 8025
    postgres: int = 55432
    valkey: int = 56379

    def uses(self, *, sandbox: bool, console: bool) -> list[PortUse]:
        """Each port with its purpose and its variable; those of sandbox and console only if there is one."""
        absent = {"sandbox": not sandbox, "console": not console}
        names = [name for name in _PURPOSES if not absent.get(name)]
        return [PortUse(getattr(self, name), _PURPOSES[name], _variable(name)) for name in names]


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """How to run.

    Attributes:
        folder: Data and logs.
        resend_api_key: If there is one, emails go out through Resend itself, else to the sandbox.
        environment: The whole environment, which the services inherit.
    """

    ports: Ports
    folder: Path
    resend_api_key: str | None
    environment: Mapping[str, str]

    @property
    def uses_sandbox(self) -> bool:
        """Whether emails stay on this machine."""
        return self.resend_api_key is None

    @property
    def uses_token(self) -> bool:
        """Whether callers must show a token; not if ``SRED_EMAIL_AUTH=off`` was said."""
        return self.environment.get("SRED_EMAIL_AUTH", "").strip() != "off"


def read_settings(environment: Mapping[str, str]) -> LocalSettings:
    """Read the environment.

    Port 0 stands for a free one.

    Raises:
        SettingsError: Names every variable that is wrong.
    """
    ports: dict[str, int] = {}
    problems: list[str] = []
    for field in fields(Ports):
        text = environment.get(_variable(field.name), "").strip()
        if not text:
            continue
        if not text.isdecimal() or int(text) > _LAST_PORT:
            problems.append(f"{_variable(field.name)} must be a port, 1 to {_LAST_PORT}, or 0 for a free one: {text!r}")
        else:
            ports[field.name] = int(text) or free_port()
    if problems:
        raise SettingsError("\n".join(problems))
    folder = environment.get(f"{_PREFIX}FOLDER", "").strip() or ".local"
    return LocalSettings(
        ports=Ports(**ports),
        folder=Path(folder).absolute(),
        resend_api_key=environment.get("RESEND_API_KEY", "").strip() or None,
        environment=dict(environment),
    )


def _variable(port: str) -> str:
    return f"{_PREFIX}{port.upper()}_PORT"
