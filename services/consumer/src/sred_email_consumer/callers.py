"""Who calls, for the audit."""

from typing import Any

import grpc

from sred_email_core.email_send_log.audit import Deed


def deed_of(context: "grpc.aio.ServicerContext[Any, Any]", action: str, target: str = "", detail: str = "") -> Deed:
    """What the audit says of a call: who makes it is anonymous where nobody has to say.

    Args:
        context: Of the call.
        action: What it does, in a word or two.
        target: To what; of a person only the digest.
        detail: More about it, without personal data.
    """
    return Deed(action, target, detail, peer=context.peer() or "")
