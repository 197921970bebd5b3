"""What the ingress counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class IngressMetrics:
    """Counters of the ingress, on a registry of their own."""

    OUTCOMES = ("accepted", "deduplicated", "invalid", "conflict", "overloaded", "late", "unavailable")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.emails = Counter(
            "sred_email_ingress_emails",
            "Emails offered by callers, by what came of it: accepted, deduplicated, invalid, conflict, overloaded,"
            " late (its call's deadline passed first), unavailable.",
            ["outcome"],
            registry=registry,
        )
        self.outcomes = {outcome: self.emails.labels(outcome) for outcome in self.OUTCOMES}
        self.pressure = Gauge(
            "sred_email_ingress_pressure",
            "How full the queue is, 1 at its limit: LOW is refused from 0.8, NORMAL from 0.9, HIGH from 1.",
            registry=registry,
        )
        self.cancelled = Counter("sred_email_ingress_cancelled", "Emails that callers cancelled.", registry=registry)
        self.published = Counter(
            "sred_email_ingress_published", "Emails put on a stream right after acceptance.", registry=registry
        )
        self.mended = Counter(
            "sred_email_ingress_mended",
            "What was not in Redis as the log says, by what the reconciler did about it: published, placed_in_sends,"
            " places_forgotten, leftovers_dropped, letters_shown, letters_removed, letters_indexed, letters_resolved.",
            ["what"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "sred_email_ingress_in_flight",
            "Emails in flight, told by the one replica that reconciles. log: open there, and due within the hour;"
            " scheduled: open there, and due later; places: with a place in Redis; streams: entries there;"
            " parked: waiting alone; sends: waiting for their repeat. Not all of one moment.",
            ["where"],
            registry=registry,
        )
        self.inconsistent = Gauge(
            "sred_email_ingress_inconsistent",
            "Emails that the last way through all open ones found without a true place in Redis.",
            registry=registry,
        )
        self.reconciles = Gauge(
            "sred_email_ingress_reconciles",
            "1 on the one replica that reconciles, 0 on the others.",
            registry=registry,
        )
        self.reconciled_at = Gauge(
            "sred_email_ingress_reconciled_timestamp_seconds",
            "When this replica last came to the end of a round of the reconciler; 0: never.",
            registry=registry,
        )
        self.expired = Counter(
            "sred_email_ingress_expired",
            "Emails that the reconciler ended because they had expired.",
            registry=registry,
        )
        self.publish_failures = Counter(
            "sred_email_ingress_publish_failures",
            "Emails that could not be put on a stream in time; they stay in the log, open.",
            registry=registry,
        )
