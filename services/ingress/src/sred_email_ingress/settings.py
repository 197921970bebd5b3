"""Settings of the ingress."""

import base64
import binascii
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from sred_email_core.encryption.settings import EncryptionKeysFile
from sred_email_core.settings import (
    PREFIX,
    Listen,
    ListenAddress,
    MayBeInFile,
    PositiveSeconds,
    PostgresDsn,
    ServiceSettings,
)
from sred_email_ingress.addresses import parse_address
from sred_email_ingress.expiry import DEFAULT_EXPIRY, parse_lifetimes
from sred_email_templates import Product
from sred_email_templates.product import check_colour, check_line, check_support_address, check_url


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


def _parse_secrets(value: object) -> object:
    if not isinstance(value, str):
        return value
    secrets = tuple(part.strip() for part in value.split(",") if part.strip())
    if not secrets or not all(map(_is_secret, secrets)):
        raise ValueError(
            "must be whsec_… as the provider shows it; several, separated by commas, while one is replaced"
        )
    return secrets


def _is_secret(text: str) -> bool:
    try:
        return text.startswith("whsec_") and bool(base64.b64decode(text.removeprefix("whsec_") + "==", validate=False))
    except binascii.Error:
        return False


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
    templates_dir: Path | None = Field(default=None, description="folder of one's own templates")
    product_name: Annotated[str, AfterValidator(check_line)] = Field(
        default="SREDSimplify", min_length=1, pattern=r"\S", description="as emails name the product"
    )
    product_url: Annotated[str, AfterValidator(check_url)] = Field(
        default="", description="where the product's name leads; unset: nowhere"
    )
    product_logo_url: Annotated[str, AfterValidator(check_url)] = Field(
        default="", description="an image, shown 32 pixels high; unset: the name in writing"
    )
    brand_color: Annotated[str, AfterValidator(check_colour)] = Field(
        default="#1d4f7c", description="of buttons and links"
    )
    support_address: Annotated[str, AfterValidator(check_support_address)] = Field(
        default="", description="where emails send questions; unset: none"
    )
    postal_address: Annotated[str, AfterValidator(check_line)] = Field(
        default="", description="for the footer of emails, in one line; unset: none"
    )
    resend_webhook_secret: Annotated[tuple[str, ...], NoDecode, BeforeValidator(_parse_secrets), MayBeInFile()] = Field(
        default=(), repr=False, description="whsec_… of the webhook; unset: /webhooks/resend answers 404"
    )
    max_backlog: int = Field(default=1_000_000, ge=1, description="the most emails in flight")
    max_redis_memory: float = Field(
        default=0.8, gt=0, le=1, allow_inf_nan=False, description="the most of Redis' maxmemory to use, as a share"
    )

    @property
    def product(self) -> Product:
        """What templates say of the product."""
        return Product(
            name=self.product_name,
            url=self.product_url,
            brand_color=self.brand_color,
            support_address=self.support_address,
            logo_url=self.product_logo_url,
            postal_address=self.postal_address,
        )


class MigrateSettings(BaseSettings):
    """What ``sred-email-ingress migrate`` reads from the environment."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore", env_ignore_empty=True)

    postgres_dsn: PostgresDsn = Field(description="the log: postgresql://user:password@host:5432/database")


class KeyReportSettings(MigrateSettings):
    """What ``sred-email-ingress keys`` reads from the environment."""

    encryption_keys_file: EncryptionKeysFile = None
