"""The ways in which the provider fails."""

import re

from sred_email_local.sandbox.rules import Action, Rule


def _answer(status: int, name: str, **headers: str) -> Rule:
    return Rule(status=status, name=name, message=f"It says {status}.", headers=headers)


FAILURES = {
    "rate limit": _answer(429, "rate_limit_exceeded", **{"retry-after": "7"}),
    "quota": _answer(429, "daily_quota_exceeded", **{"retry-after": "600"}),
    "bad key": _answer(401, "invalid_api_key"),
    "account": _answer(403, "invalid_access"),
    "domain": _answer(403, "validation_error"),
    "refused": _answer(422, "validation_error"),
    "refused within a batch": Rule(
        action=Action.REJECT, subject=re.compile("[02468]$"), status=422, name="validation_error"
    ),
    "error": _answer(500, "internal_server_error"),
    "reset": Rule(action=Action.RESET),
    "accepted, then an error": Rule(action=Action.ACCEPT_THEN_500),
    "accepted, then a reset": Rule(action=Action.ACCEPT_THEN_RESET),
    "accepted, then no answer": Rule(action=Action.ACCEPT_THEN_HANG),
}
REFUSALS = {"refused", "refused within a batch"}
UNKNOWN = {"error", "reset", "accepted, then an error", "accepted, then a reset", "accepted, then no answer"}
