"""Settings of traces: OpenTelemetry's own variables, checked before its SDK reads them."""

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict


def _in_lower_case(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


def _refuse_other_protocols(value: object) -> object:
    if value is not None and _in_lower_case(value) != "http/protobuf":
        raise ValueError(
            "must be http/protobuf, to the collector's port for HTTP (4318): no other protocol is built in"
        )
    return _in_lower_case(value)


def _refuse_other_exporters(value: object) -> object:
    if _in_lower_case(value) not in {"otlp", "none", None}:
        raise ValueError("must be otlp or none: no other exporter is built in")
    return _in_lower_case(value)


Protocol = Annotated[Literal["http/protobuf"] | None, BeforeValidator(_refuse_other_protocols)]
Endpoint = Annotated[str | None, Field(pattern=r"^https?://[^\s]+$", repr=False)]


class TraceSettings(BaseSettings):
    """What decides whether and how spans are exported; what is not here, the SDK reads by itself.

    Source: https://opentelemetry.io/docs/specs/otel/configuration/sdk-environment-variables/
    """

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)

    otel_sdk_disabled: bool = Field(
        default=False, validation_alias="OTEL_SDK_DISABLED", description="true: no traces, whatever else is set"
    )
    otel_traces_exporter: Annotated[Literal["otlp", "none"] | None, BeforeValidator(_refuse_other_exporters)] = Field(
        default=None, validation_alias="OTEL_TRACES_EXPORTER"
    )
    otel_endpoint: Endpoint = Field(
        default=None, validation_alias="OTEL_EXPORTER_OTLP_ENDPOINT", description="for example http://collector:4318"
    )
    otel_traces_endpoint: Endpoint = Field(
        default=None,
        validation_alias="OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
        description="for example http://collector:4318/v1/traces",
    )
    otel_protocol: Protocol = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_PROTOCOL")
    otel_traces_protocol: Protocol = Field(default=None, validation_alias="OTEL_EXPORTER_OTLP_TRACES_PROTOCOL")
    otel_sampler: Annotated[
        Literal[
            "always_on",
            "always_off",
            "traceidratio",
            "parentbased_always_on",
            "parentbased_always_off",
            "parentbased_traceidratio",
        ],
        BeforeValidator(_in_lower_case),
    ] = Field(default="parentbased_always_on", validation_alias="OTEL_TRACES_SAMPLER")
    otel_sampler_arg: float | None = Field(
        default=None,
        ge=0,
        le=1,
        allow_inf_nan=False,
        validation_alias="OTEL_TRACES_SAMPLER_ARG",
        description="the share of traces that are kept, for the samplers traceidratio and parentbased_traceidratio",
    )
    otel_queue_size: int = Field(
        default=2048, ge=1, validation_alias="OTEL_BSP_MAX_QUEUE_SIZE", description="spans that wait for export"
    )
    otel_batch_size: int = Field(
        default=512,
        ge=1,
        validation_alias="OTEL_BSP_MAX_EXPORT_BATCH_SIZE",
        description="spans in one export",
    )
    otel_delay_ms: int = Field(
        default=5000, ge=1, validation_alias="OTEL_BSP_SCHEDULE_DELAY", description="milliseconds between exports"
    )

    @field_validator("otel_batch_size")
    @classmethod
    def _not_above_the_queue(cls, batch_size: int, info: ValidationInfo) -> int:
        if batch_size > info.data.get("otel_queue_size", batch_size):
            raise ValueError("must not be more than OTEL_BSP_MAX_QUEUE_SIZE")
        return batch_size

    @property
    def traces_wanted(self) -> bool:
        """Whether spans are made and exported at all."""
        asked = self.otel_traces_exporter == "otlp" or bool(self.otel_endpoint or self.otel_traces_endpoint)
        return asked and self.otel_traces_exporter != "none" and not self.otel_sdk_disabled
