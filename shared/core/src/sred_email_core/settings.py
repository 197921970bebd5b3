"""Settings that both services have, and how settings are read: from the environment, once, with every mistake named."""

import os
import re
import ssl
import sys
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sred_email_core.access.settings import AccessSettings
from sred_email_core.encryption.settings import EncryptionKeysFile
from sred_email_core.redis_address import RedisCertificates, check_prefix, parse_redis_url
from sred_email_core.trace_settings import TraceSettings

PREFIX = "SRED_EMAIL_"
SettingsT = TypeVar("SettingsT", bound=BaseSettings)


@dataclass(frozen=True, slots=True)
class ListenAddress:
    """Where a server listens, ``host:port``; an IPv6 host stands in brackets."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


class MayBeInFile:
    """Marks a setting that is a secret: ``<variable>_FILE`` may name a file that holds it, read once at the start."""


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


def _check_redis_url(value: str) -> str:
    parse_redis_url(value)
    return value


Listen = Annotated[ListenAddress, NoDecode, BeforeValidator(_parse_listen)]
Seconds = Annotated[timedelta, BeforeValidator(_parse_seconds)]
PositiveSeconds = Annotated[timedelta, BeforeValidator(_parse_positive_seconds)]
PostgresDsn = Annotated[str, Field(pattern=r"^postgres(ql)?://", repr=False), MayBeInFile()]
RedisUrl = Annotated[str, AfterValidator(_check_redis_url), Field(repr=False), MayBeInFile()]


class ServiceSettings(AccessSettings, TraceSettings):
    """What both services read."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    postgres_dsn: PostgresDsn = Field(description="the log: postgresql://user:password@host:5432/database")
    redis_url: RedisUrl = Field(description="the queue: redis://host:6379/0")
    redis_prefix: str = Field(
        default="sred:email", min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$", validate_default=True
    )
    redis_tls_ca_file: str | None = Field(default=None, description="whose certificates Redis may show")
    redis_tls_cert_file: str | None = Field(default=None, description="the certificate to show to Redis")
    redis_tls_key_file: str | None = Field(default=None, description="its key", validate_default=True)
    drain_timeout: Seconds = Field(default=timedelta(seconds=25), description="from SIGTERM to exit")
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "console"] | None = Field(default=None, description="unset: console on a terminal")
    encryption_keys_file: EncryptionKeysFile = None

    @field_validator("redis_prefix")
    @classmethod
    def _fit_prefix(cls, value: str, info: ValidationInfo) -> str:
        if "redis_url" in info.data:  # else it is named already
            check_prefix(parse_redis_url(info.data["redis_url"]), value)
        return value

    @field_validator("redis_tls_ca_file", "redis_tls_cert_file", "redis_tls_key_file")
    @classmethod
    def _read_certificates(cls, value: str | None, info: ValidationInfo) -> str | None:
        if value is not None and "redis_url" in info.data and not parse_redis_url(info.data["redis_url"]).tls:
            raise ValueError("has no effect unless SRED_EMAIL_REDIS_URL begins with rediss")
        try:
            if info.field_name == "redis_tls_ca_file" and value:
                ssl.create_default_context(cafile=value)
            if info.field_name == "redis_tls_key_file":
                certificate = info.data.get("redis_tls_cert_file", value)
                if (certificate is None) != (value is None):
                    raise ValueError("stands with SRED_EMAIL_REDIS_TLS_CERT_FILE only, and that one with this")
                if certificate and value:
                    ssl.create_default_context().load_cert_chain(certificate, value)
        except OSError as e:  # an error of ssl is one
            raise ValueError(f"can't be read, or holds no such thing ({e.strerror or type(e).__name__})") from e
        return value

    @property
    def redis_certificates(self) -> RedisCertificates:
        """The files of certificates, for TLS to Redis."""
        return RedisCertificates(self.redis_tls_ca_file, self.redis_tls_cert_file, self.redis_tls_key_file)

    @property
    def effective_log_format(self) -> Literal["json", "console"]:
        """The format asked for; unasked, what suits where standard error goes."""
        return self.log_format or ("console" if sys.stderr.isatty() else "json")


def load_settings(settings_type: type[SettingsT]) -> SettingsT:
    """Read settings from the environment, and from the files that it names for secrets.

    Raises:
        SystemExit: With code 2, after one line on standard error for each variable that is missing or wrong. No value
            is printed: it may be a secret.
    """
    files, from_files, problems = _read_files(settings_type)
    try:
        settings = settings_type(**from_files)
    except ValidationError as e:
        for name, problem in _problems(settings_type, e):
            problems.setdefault(files.get(name, _variable(settings_type, name)), problem)
    if problems:
        for variable, problem in problems.items():
            print(f"{variable}: {problem}", file=sys.stderr)  # noqa: T201 - there is no log yet
        raise SystemExit(2)
    return settings


def _read_files(settings_type: type[BaseSettings]) -> tuple[dict[str, str], dict[str, Any], dict[str, str]]:
    """Which settings stand in files (name of the setting, variable of the file), what these hold, and what is wrong."""
    files, contents, problems = dict[str, str](), dict[str, Any](), dict[str, str]()
    for name, field in settings_type.model_fields.items():
        variable = _variable(settings_type, name)
        path = os.environ.get(f"{variable}_FILE")
        if not path or not any(isinstance(mark, MayBeInFile) for mark in field.metadata):
            continue
        files[name] = f"{variable}_FILE"
        if os.environ.get(variable):
            problems[files[name]] = f"unset this one or {variable}: only one of them can hold"
            continue
        try:
            contents[name] = Path(path).read_text(encoding="utf-8").strip()
        except (OSError, UnicodeError) as e:
            problems[files[name]] = f"the file can't be read ({getattr(e, 'strerror', None) or 'it is not UTF-8'})"
            continue
        if not contents[name]:
            problems[files[name]] = "the file is empty"
    return files, contents, problems


def _problems(settings_type: type[BaseSettings], error: ValidationError) -> list[tuple[str, str]]:
    found: dict[str, str] = {}
    for detail in error.errors(include_url=False, include_input=False):
        name = str(detail["loc"][0]) if detail["loc"] else ""
        found.setdefault(name, _sentence(settings_type, name, detail))
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
    fields = settings_type.model_fields
    field = fields.get(name) or next((f for f in fields.values() if f.validation_alias == name), None)
    hint = f" ({field.description})" if field is not None and field.description else ""
    if detail["type"] == "missing":
        in_file = field is not None and any(isinstance(mark, MayBeInFile) for mark in field.metadata)
        return f"is required{hint}" + (f"; or {_variable(settings_type, name)}_FILE, a file with it" if in_file else "")
    return f"{detail['msg'].removeprefix('Value error, ')}{hint}"
