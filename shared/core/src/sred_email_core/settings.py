"""Settings that both services have, and how settings are read: from the environment, once, with every mistake named."""

import re
import sys
from dataclasses import dataclass
from datetime import timedelta
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

PREFIX = "SRED_EMAIL_"
SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a server listens, ``host:port``; an IPv6 host stands in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


def _parse_listen(value: object) -> object:
    if not isinstance(value, str):
        return value
    match = re.fullmatch(r"(\[[0-9a-fA-F:]+\]|[^:\[\]]+):(\d{1,5})", value.strip())
    if not match or not 0 < int(match[2]) < 65536:  # noqa: PLR2004 - the range of ports
        raise ValueError("must be host:port, for example 0.0.0.0:50051")
    return ListenAddress(match[1].strip("[]"), int(match[2]))


def _parse_seconds(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    try:
        seconds = float(str(value))
    except ValueError as e:
        raise ValueError("must be a number of seconds, for example 2 or 0.5") from e
    if not 0 <= seconds < 1e9:  # noqa: PLR2004 - also refuses nan and inf
        raise ValueError("must be a number of seconds, 0 or more")
    return timedelta(seconds=seconds)


def _parse_positive_seconds(value: object) -> object:
    parsed = _parse_seconds(value)
    if parsed == timedelta():
        raise ValueError("must be more than 0 seconds")
    return parsed


def _refuse_tokens(value: str) -> str:
    if value == "tokens":
        raise ValueError("tokens are not available in this version: say off, and guard the port")
    return value


def _refuse_tls(value: str | None) -> str | None:
    if value is not None:
        raise ValueError("TLS is not available in this version: unset it")
    return value


Listen = Annotated[ListenAddress, NoDecode, BeforeValidator(_parse_listen)]
Seconds = Annotated[timedelta, BeforeValidator(_parse_seconds)]
PositiveSeconds = Annotated[timedelta, BeforeValidator(_parse_positive_seconds)]
PostgresDsn = Annotated[str, Field(pattern=r"^postgres(ql)?://", repr=False)]
RedisUrl = Annotated[str, Field(pattern=r"^(rediss?|unix)://", repr=False)]


class ServiceSettings(BaseSettings):
    """What both services read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    postgres_dsn: PostgresDsn = Field(description="the log: postgresql://user:password@host:5432/database")
    redis_url: RedisUrl = Field(description="the queue: redis://host:6379/0")
    redis_prefix: str = Field(default="sred:email", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    drain_timeout: Seconds = Field(default=timedelta(seconds=25), description="from SIGTERM to exit")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] | None = Field(default=None, description="unset: console on a terminal")
    # Never serve in the open when the operator asked for a lock.
    auth: Annotated[Literal["off", "tokens"], AfterValidator(_refuse_tokens)] = Field(
        default="tokens", validate_default=True, description="who may call; off must be said"
    )
    tls_cert_file: Annotated[str | None, AfterValidator(_refuse_tls)] = None
    tls_key_file: Annotated[str | None, AfterValidator(_refuse_tls)] = None
    tls_client_ca_file: Annotated[str | None, AfterValidator(_refuse_tls)] = None

    @property
    def effective_log_format(self) -> Literal["json", "console"]:
        """The format asked for; unasked, what suits where standard error goes."""
        return self.log_format or ("console" if sys.stderr.isatty() else "json")


def load_settings(settings_type: type[SettingsT]) -> SettingsT:
    """Read settings from the environment.

    Raises:
        SystemExit: With code 2, after one line on standard error for each variable that is missing or wrong. No value
            is printed: it may be a secret.
    """
    try:
        return settings_type()
    except ValidationError as e:
        for variable, problem in _problems(settings_type, e):
            print(f"{variable}: {problem}", file=sys.stderr)  # noqa: T201 - there is no log yet
        raise SystemExit(2) from None


def _problems(settings_type: type[BaseSettings], error: ValidationError) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        found.setdefault(_variable(settings_type, name), _sentence(settings_type, name, detail))
    return list(found.items())


def _variable(settings_type: type[BaseSettings], name: str) -> str:
    field = settings_type.model_fields.get(name)
    alias = field.validation_alias if field is not None else None
    if isinstance(alias, str):
        return alias
    if name.isupper():
        return name
    return f"{PREFIX}{name.upper()}"


def _sentence(settings_type: type[BaseSettings], name: str, detail: Any) -> str:  # noqa: ANN401 - pydantic's
    field = settings_type.model_fields.get(name)
    hint = f" ({field.description})" if field is not None and field.description else ""
    if detail["type"] == "missing":
        return f"is required{hint}"
    return f"{detail['msg'].removeprefix('Value error, ')}{hint}"
