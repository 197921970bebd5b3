"""Settings of the consumer."""

import re
from datetime import timedelta
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator, model_validator
from pydantic_settings import NoDecode

from sred_email_consumer.unsubscribe import parse_unsubscribe
from sred_email_core.email_send_log.retention import LEAST_KEPT
from sred_email_core.settings import (
    Listen,
    ListenAddress,
    PositiveSeconds,
    ServiceSettings,
)

MAX_HORIZON = timedelta(seconds=82800)
"""An hour less than the provider keeps an Idempotency-Key."""

_MISSING = object()
_MOST_DAYS = 36_500
_PROVIDER_HOST = "resend.com"


def _check_key(value: object) -> object:
    if value is _MISSING:
        raise ValueError("is required: the key, or a file that holds it (RESEND_API_KEY_FILE)")
    if not isinstance(value, str):
        return value
    if not re.fullmatch(r"[\x21-\x7e]+", value.strip()):
        raise ValueError("must be one line of printable ASCII")
    return value.strip()


def _parse_unsubscribe(value: object) -> object:
    return parse_unsubscribe(value) if isinstance(value, str) else value


def _parse_days(value: object) -> object:
    if isinstance(value, timedelta):
        return value
    try:
        days = float(str(value))
    except ValueError as e:
        raise ValueError("must be a number of days, for example 30 or 1.5; 0: emails never leave") from e
    if days != 0 and not LEAST_KEPT.days <= days <= _MOST_DAYS:  # also refuses nan
        raise ValueError(
            "must be 0 (emails never leave), or from 1 to 36500 days: for a day watchers may come back, and a send be"
            " repeated"
        )
    return timedelta(days=days)


def _check_base_url(url: str) -> str:
    host = urlsplit(url).hostname or ""
    if url.startswith("http:") and (host == _PROVIDER_HOST or host.endswith(f".{_PROVIDER_HOST}")):
        raise ValueError("must begin with https://: the API key would go through the network for all to read")
    return url


Address = Annotated[str, Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$", max_length=254)]


class ConsumerSettings(ServiceSettings):
    """What the consumer reads from the environment."""

    resend_api_key: Annotated[str | None, BeforeValidator(_check_key)] = Field(
        default=None, validation_alias="RESEND_API_KEY", repr=False
    )
    resend_api_key_file: Path | None = Field(default=None, validation_alias="RESEND_API_KEY_FILE")
    resend_base_url: Annotated[str, AfterValidator(_check_base_url)] = Field(
        default="https://api.resend.com", pattern=r"^https?://[^\s]+$"
    )
    resend_requests_per_second: float = Field(default=10, ge=0, le=100_000, description="0: no limit")
    resend_batch_size: int = Field(default=100, ge=1, le=100, description="1: never batch")
    consumer_slots: int = Field(default=16, ge=1, le=1000, description="requests in flight per process")
    max_attempts: int = Field(default=8, ge=1, le=1000)
    retry_base_delay: PositiveSeconds = timedelta(seconds=2)
    retry_max_delay: PositiveSeconds = Field(default=timedelta(seconds=3600), validate_default=True)
    provider_timeout: PositiveSeconds = timedelta(seconds=15)
    claim_idle: PositiveSeconds = Field(default=timedelta(seconds=60), validate_default=True)
    retry_horizon: PositiveSeconds = Field(default=MAX_HORIZON, le=MAX_HORIZON)
    breaker_failures: int = Field(default=5, ge=1, le=1000, description="sends that fail in a row, over all replicas")
    probe_interval: PositiveSeconds = timedelta(seconds=15)
    low_share: float = Field(default=0.1, ge=0, le=1, description="of the places sent, over all replicas")
    max_deliveries: int = Field(default=5, ge=1, le=1000, description="owners that died while working on one entry")
    retention_days: Annotated[timedelta, BeforeValidator(_parse_days)] = Field(
        default=timedelta(days=30), description="from the end of an email until it leaves the log; 0: never"
    )
    redirect_all_to: Address | None = Field(default=None, description="staging: every email goes to this address")
    unsubscribe_url: Annotated[tuple[str, ...] | None, NoDecode, BeforeValidator(_parse_unsubscribe)] = Field(
        default=None, description="https:// URL and mailto: address by which people get rid of some kinds"
    )
    consumer_grpc_listen: Listen = ListenAddress("0.0.0.0", 50052)  # noqa: S104 - a container's port
    consumer_http_listen: Listen = ListenAddress("0.0.0.0", 8081)  # noqa: S104 - a container's port

    @model_validator(mode="before")
    @classmethod
    def _require_a_key(cls, values: dict[str, object]) -> dict[str, object]:
        """Name the missing key together with whatever else is wrong."""
        if not values.get("RESEND_API_KEY") and not values.get("RESEND_API_KEY_FILE"):
            values = {**values, "RESEND_API_KEY": _MISSING}
        return values

    @field_validator("claim_idle")
    @classmethod
    def _outlast_an_attempt(cls, claim_idle: timedelta, info: ValidationInfo) -> timedelta:
        """A lease that ends during an attempt would let two processes send at once."""
        if claim_idle <= info.data.get("provider_timeout", timedelta()):
            raise ValueError("must be longer than the provider timeout")
        return claim_idle

    @field_validator("retry_max_delay")
    @classmethod
    def _not_below_the_base(cls, retry_max_delay: timedelta, info: ValidationInfo) -> timedelta:
        if retry_max_delay < info.data.get("retry_base_delay", timedelta()):
            raise ValueError("must not be shorter than the base delay")
        return retry_max_delay
