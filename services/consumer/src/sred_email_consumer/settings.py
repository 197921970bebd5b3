"""Settings of the consumer."""

from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, model_validator

from sred_email_core.settings import (
    PREFIX,
    InvalidSettingsError,
    Listen,
    ListenAddress,
    PositiveSeconds,
    ServiceSettings,
)

MAX_HORIZON = timedelta(seconds=82800)
"""An hour less than the provider keeps an Idempotency-Key."""

_MISSING = object()


def _refuse_missing(value: object) -> object:
    if value is _MISSING:
        raise ValueError("is required: the key, or a file that holds it (RESEND_API_KEY_FILE)")
    return value


Address = Annotated[str, Field(pattern=r"^[^@\s,<>]+@[^@\s,<>]+$", max_length=254)]


class ConsumerSettings(ServiceSettings):
    """What the consumer reads from the environment."""

    resend_api_key: Annotated[str | None, BeforeValidator(_refuse_missing)] = Field(
        default=None, validation_alias="RESEND_API_KEY", repr=False
    )
    resend_api_key_file: Path | None = Field(default=None, validation_alias="RESEND_API_KEY_FILE")
    resend_base_url: str = Field(default="https://api.resend.com", pattern=r"^https?://[^\s]+$")
    resend_requests_per_second: float = Field(default=10, ge=0, le=100_000, description="0: no limit")
    resend_batch_size: int = Field(default=100, ge=1, le=100, description="1: never batch")
    consumer_slots: int = Field(default=16, ge=1, le=1000, description="requests in flight per process")
    max_attempts: int = Field(default=8, ge=1, le=1000)
    retry_base_delay: PositiveSeconds = timedelta(seconds=2)
    retry_max_delay: PositiveSeconds = timedelta(seconds=3600)
    provider_timeout: PositiveSeconds = timedelta(seconds=15)
    claim_idle: PositiveSeconds = timedelta(seconds=60)
    retry_horizon: PositiveSeconds = Field(default=MAX_HORIZON, le=MAX_HORIZON)
    probe_interval: PositiveSeconds = timedelta(seconds=15)
    redirect_all_to: Address | None = Field(default=None, description="staging: every email goes to this address")
    consumer_grpc_listen: Listen = ListenAddress("0.0.0.0", 50052)  # noqa: S104 - a container's port
    consumer_http_listen: Listen = ListenAddress("0.0.0.0", 8081)  # noqa: S104 - a container's port

    @model_validator(mode="before")
    @classmethod
    def _require_a_key(cls, values: dict[str, object]) -> dict[str, object]:
        """Name the missing key together with whatever else is wrong."""
        if not values.get("RESEND_API_KEY") and not values.get("RESEND_API_KEY_FILE"):
            values = {**values, "RESEND_API_KEY": _MISSING}
        return values

    @model_validator(mode="after")
    def _check_times(self) -> "ConsumerSettings":
        """A lease that ends during an attempt would let two processes send at once."""
        if self.claim_idle <= self.provider_timeout:
            raise InvalidSettingsError([(f"{PREFIX}CLAIM_IDLE", "must be longer than the provider timeout")])
        if self.retry_max_delay < self.retry_base_delay:
            raise InvalidSettingsError([(f"{PREFIX}RETRY_MAX_DELAY", "must not be shorter than the base delay")])
        return self
