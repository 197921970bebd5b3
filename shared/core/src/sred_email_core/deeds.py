"""What the audit says of a call: who makes it, and what it does."""

from typing import Any

import grpc

from sred_email_core.access.caller import caller_name
from sred_email_core.email_send_log.audit import ANONYMOUS, Deed

OPERATOR_KEY = "sred-email-operator-bin"
"""Metadata in which a program says for whom it calls, such as the console: the person's name, UTF-8."""
_LONGEST_NAME = 100


def deed_of(context: "grpc.aio.ServicerContext[Any, Any]", action: str, target: str = "", detail: str = "") -> Deed:
    """What the audit says of a call: the name of the token that it came with; anonymous where nobody has to show one.

    Args:
        context: Of the call.
        action: What it does, in a word or two.
        target: To what; of a person only the digest.
        detail: More about it, without personal data.
    """
    actor, operator = caller_name() or ANONYMOUS, _operator_of(context)
    if operator:
        actor = f"{actor} as {operator}"
    return Deed(action, target, detail, actor=actor, peer=context.peer() or "")


def _operator_of(context: "grpc.aio.ServicerContext[Any, Any]") -> str:
    """Whom the caller names; empty: nobody. It is what they say, and stands beside what they can prove."""
    for key, value in context.invocation_metadata() or ():
        if key == OPERATOR_KEY and isinstance(value, bytes):
            name = value.decode("utf-8", "replace")
            return "".join(c for c in name if c.isprintable()).strip()[:_LONGEST_NAME]
    return ""
