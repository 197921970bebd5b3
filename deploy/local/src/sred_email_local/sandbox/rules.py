"""Failures on demand: rules that say what becomes of requests whose emails match."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from sred_email_local.sandbox.email import peek_recipients, peek_subject
from sred_email_local.sandbox.refusal import Refusal


class Action(StrEnum):
    """What a rule does to a request (to an email, for `reject`)."""

    ANSWER = "answer"
    """The rule's status, name, message and headers are answered; nothing is accepted."""
    REJECT = "reject"
    """As if the matching emails were invalid: by index in a permissive batch, else like `answer`."""
    RESET = "reset"
    """The connection is reset; nothing is accepted."""
    HANG = "hang"
    """No answer ever comes; nothing is accepted."""
    ACCEPT_THEN_RESET = "accept_then_reset"
    """The emails are accepted, but the connection is reset before the answer."""
    ACCEPT_THEN_500 = "accept_then_500"
    """The emails are accepted, but the answer is the rule's status (500) and name."""
    ACCEPT_THEN_HANG = "accept_then_hang"
    """The emails are accepted, but no answer ever comes."""
    ACCEPT_THEN_DRIP = "accept_then_drip"
    """The emails are accepted, and the answer comes byte by byte, each after the rule's delay."""
    ACCEPT_THEN_RAW = "accept_then_raw"
    """The emails are accepted, but what comes is the rule's text, without HTTP around it, and then the end."""
    DELAY = "delay"
    """All goes its usual way, but slowly; the idempotency key is in progress meanwhile."""


class RuleError(Exception):
    """A rule cannot be read; the message says why."""


@dataclass(slots=True)
class Rule:
    """One failure.

    Attributes:
        action: What happens.
        subject: Searched for in the subject of each email; matches all if None.
        to: Searched for in each `to` address; matches all if None.
        text: Answered instead of the API's JSON, as a proxy would (raw: characters up to U+00FF, each a byte).
        times: How many requests it still applies to; None for all.
        delay_s: Seconds before the answer (`delay`), before each byte of it (`accept_then_drip`).
    """

    action: Action = Action.ANSWER
    subject: re.Pattern[str] | None = None
    to: re.Pattern[str] | None = None
    status: int = 500
    name: str = "internal_server_error"
    message: str = "An unexpected error occurred."
    text: str | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    times: int | None = None
    delay_s: float = 1.0

    def matches(self, email: object) -> bool:
        """Whether an email, as it came, is meant."""
        if self.subject is not None and not self.subject.search(peek_subject(email)):
            return False
        return self.to is None or any(map(self.to.search, peek_recipients(email)))

    def refusal(self) -> Refusal:
        """The rule's error answer."""
        return Refusal(self.status, self.name, self.message, self.headers)

    def body(self) -> Mapping[str, object] | str:
        """The body of the rule's error answer."""
        return self.refusal().body() if self.text is None else self.text


class Rules:
    """The rules in force; the first that matches a request applies to it."""

    def __init__(self) -> None:
        self._rules: list[Rule] = []

    def replace(self, rules: Iterable[Rule]) -> None:
        """Put these in force instead of those before."""
        self._rules = list(rules)

    def take(self, emails: Iterable[object]) -> Rule | None:
        """The rule for a request with these emails, counted as used; None if there is none."""
        carried = list(emails)
        for rule in self._rules:
            if rule.times != 0 and any(map(rule.matches, carried)):
                if rule.times is not None:
                    rule.times -= 1
                return rule
        return None


def read_rules(source: object) -> list[Rule]:
    """Read the body of ``POST /_sandbox/rules``.

    Raises:
        RuleError: It is not of that form.
    """
    rules = source.get("rules") if isinstance(source, dict) else None
    if not isinstance(rules, list):
        raise RuleError('the body must be {"rules": […]}')
    return [_read_rule(rule) for rule in rules]


def _read_rule(source: object) -> Rule:
    if not isinstance(source, dict):
        raise RuleError("a rule must be an object")
    rule = Rule()
    for name, value in source.items():
        if value is not None:
            _set(rule, name, value)
    if rule.action is Action.REJECT and "status" not in source:
        rule.status, rule.name = 422, source.get("name", "validation_error")
    return rule


def _set(rule: Rule, name: str, value: object) -> None:
    try:
        match name, value:
            case "action", str():
                rule.action = Action(value)
            case "subject" | "to", str():
                setattr(rule, name, re.compile(value))
            case "status", int() if 200 <= value <= 599:  # noqa: PLR2004 - what HTTP has
                rule.status = value
            case ("times", int()) | ("name" | "message" | "text", str()) | ("headers", dict()):
                setattr(rule, name, value)
            case "delay_s", int() | float():
                rule.delay_s = value
            case _:
                raise RuleError(f"{name} cannot be {value!r}")
    except (ValueError, re.error) as error:
        raise RuleError(f"{name}: {error}") from error
