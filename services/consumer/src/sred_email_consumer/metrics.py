"""What the consumer counts."""

import math
from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from sred_email_consumer.outcome import FailureKind
from sred_email_core.queue.codec import QueuedEmail
from sred_email_core.queue.keys import Lane

_REQUEST_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0)
_LIMITER_BUCKETS_S = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0)
_WAY_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


class ConsumerMetrics:
    """Counters of the consumer, on a registry of their own."""

    DISPATCH_STATES = ("RUNNING", "PAUSED", "PROVIDER_DOWN", "MISCONFIGURED", "QUOTA_EXHAUSTED")

    REASONS = ("REJECTED", "ATTEMPTS_EXHAUSTED", "OUTCOME_UNKNOWN", "POISON", "MALFORMED")

    def __init__(self, registry: CollectorRegistry) -> None:
        self._count_sends(registry)
        self._count_ends(registry)
        self.queue = QueueGauges(registry)
        self.dispatch_state = Gauge(
            "sred_email_consumer_dispatch_state",
            "1 for the state that delivery is in, over all replicas, 0 for the others.",
            ["state"],
            registry=registry,
        )

    def observe_way(self, emails: Iterable[QueuedEmail], began_at: float) -> None:
        """Count how long emails were on their way that the provider has taken.

        Args:
            emails: That it took.
            began_at: When their request began, Unix seconds.
        """
        ways = self._way_by_lane
        for email in emails:
            since = email.accepted_at if email.send_at is None else max(email.send_at, email.accepted_at)
            ways[email.lane].observe(max(0.0, began_at - since.timestamp()))  # by two clocks

    def _count_sends(self, registry: CollectorRegistry) -> None:
        self.requests = Counter(
            "sred_email_consumer_requests",
            "Requests to the provider, by outcome: accepted, or the kind of failure.",
            ["outcome"],
            registry=registry,
        )
        self.accepted = self.requests.labels("accepted")
        self.failures = {kind: self.requests.labels(kind.name.lower()) for kind in FailureKind}
        self.in_flight = Gauge("sred_email_consumer_sends_in_flight", "Sends being worked on.", registry=registry)
        self.request_seconds = Histogram(
            "sred_email_consumer_request_seconds",
            "Time of one request to the provider.",
            buckets=_REQUEST_BUCKETS_S,
            registry=registry,
        )
        self.limiter_wait = Histogram(
            "sred_email_consumer_limiter_wait_seconds",
            "How long a request that was granted, claimed and made still waited for its turn.",
            buckets=_LIMITER_BUCKETS_S,
            registry=registry,
        )
        self.held_seconds = Counter(
            "sred_email_consumer_held_seconds",
            "Time in which slots were free but nothing could go out: the limit, a hold, a stop or a pause.",
            registry=registry,
        )
        way = Histogram(
            "sred_email_consumer_accepted_to_request_seconds",
            "From acceptance (of a scheduled email: from its time) to the beginning of the request by which the"
            " provider took it; once for each email, by lane.",
            ["lane"],
            buckets=_WAY_BUCKETS_S,
            registry=registry,
        )
        self._way_by_lane = {lane: way.labels(lane.name) for lane in Lane}

    def _count_ends(self, registry: CollectorRegistry) -> None:
        self.sent = Counter("sred_email_consumer_emails_sent", "Emails that the provider accepted.", registry=registry)
        self.waits = Counter(
            "sred_email_consumer_retries",
            "Emails that a request left to be sent again, by cause: a kind of failure, or refused_in_batch.",
            ["cause"],
            registry=registry,
        )
        self.suppressed = Counter(
            "sred_email_consumer_emails_suppressed",
            'Emails that were not sent because every recipient in "to" is suppressed.',
            registry=registry,
        )
        self.expired = Counter(
            "sred_email_consumer_emails_expired",
            "Emails that expired before they could be sent, where a consumer found it.",
            registry=registry,
        )
        self.dead_letters = Counter(
            "sred_email_consumer_dead_letters", "Emails given up, by reason.", ["reason"], registry=registry
        )
        for reason in self.REASONS:  # shown as 0 from the start, or Prometheus would miss the first of each
            self.dead_letters.labels(reason)
        for cause in (*(kind.name.lower() for kind in FailureKind), "refused_in_batch"):
            self.waits.labels(cause)
        self.replayed = Counter(
            "sred_email_consumer_emails_replayed", "Emails of dead letters that were sent again.", registry=registry
        )
        self.emails_left = Counter(
            "sred_email_consumer_emails_left",
            "Emails that left the log because they ended longer ago than they are kept.",
            registry=registry,
        )


class QueueGauges:
    """What every consumer tells of the queue that all share: aggregate over replicas by max, not by sum."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.waiting = Gauge(
            "sred_email_consumer_lane_waiting",
            "Emails on the lane's stream that no consumer has taken; the same on every replica.",
            ["lane"],
            registry=registry,
        )
        self.oldest = Gauge(
            "sred_email_consumer_lane_oldest_waiting_seconds",
            "How long the first of them has been on the stream; 0: none waits. The same on every replica.",
            ["lane"],
            registry=registry,
        )
        self.in_flight = Gauge(
            "sred_email_consumer_lane_in_flight",
            "Emails of the lane that consumers have taken and not finished; the same on every replica.",
            ["lane"],
            registry=registry,
        )
        self.paused = Gauge(
            "sred_email_consumer_lane_paused",
            "1 while an operator has paused the lane; the same on every replica.",
            ["lane"],
            registry=registry,
        )
        self.retry = Gauge(
            "sred_email_consumer_retry_waiting",
            "Members of the retry set: emails, and sends to be repeated, by whether they are due (yes, no).",
            ["due"],
            registry=registry,
        )
        self.letters = Gauge(
            "sred_email_consumer_dead_letters_open",
            "Dead letters that the DLQ shows; the same on every replica. NaN: not known now.",
            registry=registry,
        )

        self.clear()

    def clear(self) -> None:
        """Show nothing, rather than what was true once."""
        for gauge in (self.waiting, self.oldest, self.in_flight, self.paused, self.retry):
            gauge.clear()
        self.letters.set(math.nan)
