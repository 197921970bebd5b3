"""What is counted of webhooks."""

from prometheus_client import CollectorRegistry, Counter, Gauge


class WebhookMetrics:
    """Counters of webhooks."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.received = Counter(
            "sred_email_ingress_webhooks",
            "Webhook requests, by what came of it: stored, duplicate, ignored (an event that says nothing here),"
            " unusable, forged, too_large, unavailable (PostgreSQL is away; the provider repeats it).",
            ["outcome"],
            registry=registry,
        )
        self.told = Counter(
            "sred_email_ingress_delivery_events",
            "New events about emails, by the delivery state that they tell: SENT, DELAYED, DELIVERED,"
            " DELIVERY_FAILED, BOUNCED, COMPLAINED.",
            ["delivery"],
            registry=registry,
        )
        self.worked = Counter(
            "sred_email_ingress_webhooks_worked",
            "Stored events, by what came of it: known (its email was found), unknown (tried again for a day),"
            " given_up.",
            ["outcome"],
            registry=registry,
        )
        self.closed = Counter(
            "sred_email_ingress_webhooks_closed", "Emails that an event closed as SUCCESS.", registry=registry
        )
        self.lag = Gauge(
            "sred_email_ingress_webhooks_lag_seconds",
            "How long the event waits that has been due the longest, over all replicas.",
            registry=registry,
        )
