"""What the consumer counts."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class ConsumerMetrics:
    """Counters of the consumer, on a registry of their own."""

    DISPATCH_STATES = ("RUNNING", "PAUSED", "PROVIDER_DOWN", "MISCONFIGURED", "QUOTA_EXHAUSTED")

    def __init__(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "sred_email_consumer_requests",
            "Requests to the provider, by outcome: accepted, or the kind of failure.",
            ["outcome"],
            registry=registry,
        )
        self.accepted = self.requests.labels("accepted")
        self.sent = Counter("sred_email_consumer_emails_sent", "Emails that the provider accepted.", registry=registry)
        self.suppressed = Counter(
            "sred_email_consumer_emails_suppressed",
            'Emails that were not sent because every recipient in "to" is suppressed.',
            registry=registry,
        )
        self.dead_letters = Counter(
            "sred_email_consumer_dead_letters", "Emails given up, by reason.", ["reason"], registry=registry
        )
        self.in_flight = Gauge("sred_email_consumer_sends_in_flight", "Sends being worked on.", registry=registry)
        self.dispatch_state = Gauge(
            "sred_email_consumer_dispatch_state",
            "1 for the state that delivery is in, over all replicas, 0 for the others.",
            ["state"],
            registry=registry,
        )
        self.request_seconds = Histogram(
            "sred_email_consumer_request_seconds", "Time of one request to the provider.", registry=registry
        )
