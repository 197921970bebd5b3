"""What the ingress counts."""

from prometheus_client import CollectorRegistry, Counter


class IngressMetrics:
    """Counters of the ingress, on a registry of their own."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.emails = Counter(
            "sred_email_ingress_emails",
            "Emails offered by callers, by what came of it: accepted, deduplicated, invalid, conflict, unavailable.",
            ["outcome"],
            registry=registry,
        )
        self.published = Counter(
            "sred_email_ingress_published", "Emails put on a stream right after acceptance.", registry=registry
        )
        self.republished = Counter(
            "sred_email_ingress_republished",
            "Emails that the reconciler put back: open in the log, without a place in Redis.",
            registry=registry,
        )
        self.publish_failures = Counter(
            "sred_email_ingress_publish_failures",
            "Emails that could not be put on a stream in time; they stay in the log, open.",
            registry=registry,
        )
