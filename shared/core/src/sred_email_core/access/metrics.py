"""What is shown of who may call."""

from prometheus_client import CollectorRegistry, Gauge


class AccessMetrics:
    """Of the files that say it."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.usable = Gauge(
            "sred_email_access_file_usable",
            "1 while the file is in force as it is; 0: it can't be used, and what was read before stays in force.",
            ["file"],
            registry=registry,
        )
        self.certificate_expires_at = Gauge(
            "sred_email_tls_certificate_expires_timestamp_seconds",
            "When the certificate of the gRPC port expires; 0: there is none.",
            registry=registry,
        )
