"""What the logs tell of an email from its call to its end, and what neither they nor the metrics ever hold."""

import json
import re
from pathlib import Path
from typing import Any

from e2e.test_delivery_truth import start, tell

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_local.sandbox.rules import Action, Rule
from support.world import API_KEY, Service, World, email_request, until

SECRET_WORD = "Xylophon"  # in every part of the content
LOCAL_PART = "marked.person"


async def number(service: Service, name: str) -> float:
    """One sample; 0 where it is not shown."""
    return float(
        next((line.split()[-1] for line in (await service.get("/metrics"))[1].splitlines() if line.startswith(name)), 0)
    )


def marked(subject: str, to: str) -> dict[str, Any]:
    """An email whose every part is marked."""
    return {
        "subject": f"{SECRET_WORD} {subject}",
        "to": [f"{SECRET_WORD} <{LOCAL_PART}.{to}@example.com>"],
        "html": f"<p>{SECRET_WORD}</p>",
        "headers": {"X-Marked": SECRET_WORD},
        "tags": {"marked": SECRET_WORD},
        "idempotency_key": f"{SECRET_WORD}-{subject}",
        "kind": email_pb2.EMAIL_KIND_PASSWORD_RESET,
    }


def lines_of(*services: Service) -> list[dict[str, Any]]:
    """Every line of their logs, as read from JSON."""
    text = "".join(Path(service.process.log).read_text() for service in services)
    return [json.loads(line) for line in text.splitlines()]


def story(lines: list[dict[str, Any]], email_id: str) -> list[str]:
    """The events of the lines that tell of an email, but those for developers."""
    return [line["event"] for line in lines if line["level"] != "debug" and email_id in json.dumps(line)]


async def test_hazard_28_the_logs_tell_the_story_of_an_email_and_nothing_of_what_it_says(world: World) -> None:
    world.env |= {"SRED_EMAIL_MAX_ATTEMPTS": "2"}
    ingress = await start(world)
    consumer = next(service for service in world.services if service.kind == "consumer")
    world.rules(
        Rule(status=422, name="validation_error", message=f"{LOCAL_PART}.bad@example.com is bad", to=re.compile("bad")),
        Rule(status=500, to=re.compile("later"), times=1),
        Rule(action=Action.ACCEPT_THEN_RESET, to=re.compile("lost")),
    )
    ids = {}
    for name in ("good", "bad", "later", "lost"):
        request = email_request(**marked(name, name))
        request.inline.text = SECRET_WORD
        ids[name] = (await world.dispatch().SendEmail(request, timeout=5)).email_id
    for email_id in ids.values():
        await world.wait_for(email_id)
    address = f"{LOCAL_PART}.good@example.com"
    bounce = {"type": "Permanent", "message": f"{address} is unknown"}
    await tell(ingress, ids["good"], "email.bounced", to=[address], bounce=bounce)
    await tell(ingress, ids["lost"], "email.delivered", to=[f"{LOCAL_PART}.lost@example.com"])
    await world.wait_for(ids["lost"], "SUCCESS")
    suppressed = (await world.dispatch().SendEmail(email_request(**marked("second", "good")), timeout=5)).email_id
    assert await world.wait_for(suppressed) == "SUPPRESSED"
    world.rules()
    await world.operations().ReplayDeadLetters(pb.ReplayDeadLettersRequest(all=True), timeout=5)
    assert await world.wait_for(ids["bad"], "SUCCESS") == "SUCCESS"

    async def told() -> bool:
        return "emails_sent" in story(lines_of(consumer), ids["bad"])

    await until(told, "the last line is written")
    lines = lines_of(ingress, consumer)
    assert story(lines, ids["good"]) == ["emails_accepted", "delivery_told", "emails_sent"]
    dead = ["attempt_failed", "email_dead"]
    assert story(lines, ids["bad"]) == ["emails_accepted", *dead, "emails_replayed", "emails_sent"]
    assert story(lines, ids["later"]) == ["emails_accepted", "attempt_failed", "emails_sent"]
    lost = ["emails_accepted", "delivery_told", "emails_closed_by_webhooks", "attempt_failed", *dead]
    assert story(lines, ids["lost"]) == lost
    assert story(lines, suppressed) == ["emails_accepted", "emails_suppressed"]
    for line in lines:
        if line["event"] in {"attempt_failed", "emails_sent", "email_dead"}:
            assert line["consumer"]
            assert line["attempt"] >= 1

    metrics = [(await service.get("/metrics"))[1] for service in (ingress, consumer)]
    everything = "\n".join([*metrics, *map(json.dumps, lines)])
    for secret in (SECRET_WORD, LOCAL_PART, API_KEY):
        assert secret not in everything
    assert await number(consumer, 'sred_email_consumer_accepted_to_request_seconds_count{lane="HIGH"}') == 3
    assert await number(consumer, 'sred_email_consumer_retries_total{cause="outcome_unknown"}') == 2
    assert await number(consumer, 'sred_email_consumer_dead_letters_total{reason="REJECTED"}') == 1
    assert await number(ingress, 'sred_email_ingress_delivery_events_total{delivery="BOUNCED"}') == 1
    assert await number(ingress, 'sred_email_call_seconds_count{code="OK",method="SendEmail"}') == 5
