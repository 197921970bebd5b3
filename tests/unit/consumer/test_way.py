"""How long an email was on its way: from acceptance, or from the time that it was scheduled for."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry

from sred.email.v1.stream_message_pb2 import EmailContent
from sred_email_consumer.metrics import ConsumerMetrics
from sred_email_core.queue.codec import QueuedEmail, decode, encode
from sred_email_core.queue.keys import Lane

ACCEPTED_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
EMAIL = QueuedEmail.of_content(
    email_id="0190a1b2-c3d4-7e5f-8a9b-0c1d2e3f4a5b",
    kind="WELCOME",
    priority="HIGH",
    accepted_at=ACCEPTED_AT,
    expire_at=None,
    content=EmailContent(subject="s").SerializeToString(),
)


@pytest.mark.parametrize(("scheduled_for_s", "way_s"), [(None, 100.0), (60, 40.0), (-60, 100.0)])
def test_a_scheduled_email_is_on_its_way_from_its_time(scheduled_for_s: int | None, way_s: float) -> None:
    registry = CollectorRegistry()
    send_at = None if scheduled_for_s is None else ACCEPTED_AT + timedelta(seconds=scheduled_for_s)
    travelled = decode(
        {b"email_id": EMAIL.email_id.encode(), b"message": encode(replace(EMAIL, send_at=send_at))}, Lane.HIGH
    )
    assert travelled.send_at == send_at
    ConsumerMetrics(registry).observe_way([travelled], ACCEPTED_AT.timestamp() + 100)
    name = "sred_email_consumer_accepted_to_request_seconds"
    assert registry.get_sample_value(f"{name}_sum", {"lane": "HIGH"}) == way_s
    assert registry.get_sample_value(f"{name}_count", {"lane": "HIGH"}) == 1
    assert registry.get_sample_value(f"{name}_count", {"lane": "LOW"}) == 0


def test_a_clock_that_went_back_counts_as_no_time() -> None:
    registry = CollectorRegistry()
    ConsumerMetrics(registry).observe_way([EMAIL], ACCEPTED_AT.timestamp() - 3)
    name = "sred_email_consumer_accepted_to_request_seconds"
    assert registry.get_sample_value(f"{name}_sum", {"lane": "HIGH"}) == 0
    assert registry.get_sample_value(f"{name}_bucket", {"lane": "HIGH", "le": "0.005"}) == 1
