"""Settings of the ingress."""

from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated

from pydantic import BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sred_email_core.settings import PREFIX, Listen, ListenAddress, PositiveSeconds, PostgresDsn, ServiceSettings
from sred_email_ingress.addresses import parse_address
from sred_email_ingress.expiry import DEFAULT_EXPIRY, parse_lifetimes


def _parse_domains(value: object) -> object:
    if not isinstance(value, str):
        return value
    domains = [part.strip().lower().rstrip(".") for part in value.split(",")]
    domains = [domain for domain in domains if domain]
    if not domains or any(" " in d or "@" in d or "." not in d for d in domains):
        raise ValueError("must be domains separated by commas, for example example.com,example.org")
    return frozenset(domains)


def _parse_sender(value: object) -> object:
    if isinstance(value, str):
        try:
            parse_address(value)
        except ValueError as e:
            raise ValueError(f"must be an address, for example Example <hello@example.com>: {e}") from e
    return value


def _parse_expiry(value: object) -> object:
    return parse_lifetimes(value) if isinstance(value, str) else value


class IngressSettings(ServiceSettings):
    """What the ingress reads from the environment."""

    ingress_grpc_listen: Listen = ListenAddress("0.0.0.0", 50051)  # noqa: S104 - a container's port
    ingress_http_listen: Listen = ListenAddress("0.0.0.0", 8080)  # noqa: S104 - a container's port
    reconcile_interval: PositiveSeconds = timedelta(seconds=10)
    reconcile_after: PositiveSeconds = timedelta(seconds=30)
    default_from: Annotated[str | None, BeforeValidator(_parse_sender)] = Field(
        default=None, description="sender of emails whose call names none"
    )
    allowed_from_domains: Annotated[frozenset[str] | None, NoDecode, BeforeValidator(_parse_domains)] = Field(
        default=None, description="domains that emails may be sent from; unset: any"
    )
    default_expiry: Annotated[Mapping[str, timedelta], NoDecode, BeforeValidator(_parse_expiry)] = Field(
        default=DEFAULT_EXPIRY, description="seconds for each kind, for example PASSWORD_RESET=3600; or off"
    )
    max_backlog: int = Field(default=1_000_000, ge=1, description="the most emails in flight")
    max_redis_memory: float = Field(
        default=0.8, gt=0, le=1, allow_inf_nan=False, description="the most of Redis' maxmemory to use, as a share"
    )


class MigrateSettings(BaseSettings):
    """What ``sred-email-ingress migrate`` reads from the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    postgres_dsn: PostgresDsn = Field(description="the log: postgresql://user:password@host:5432/database")
