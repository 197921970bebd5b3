"""Who makes the call that is being served."""

from contextvars import ContextVar

from sred_email_core.access.tokens import Grant

_grant: ContextVar[Grant | None] = ContextVar("sred_email_grant", default=None)


def enter(grant: Grant | None) -> None:
    """Let what follows in this task be the work of a caller; None: nobody had to say who they are."""
    _grant.set(grant)


def current_grant() -> Grant | None:
    """By what the call of this task was let in; None: authentication is off, or there is no call."""
    return _grant.get()


def caller_name() -> str | None:
    """Whose call this task serves; None: authentication is off, or there is no call."""
    grant = _grant.get()
    return None if grant is None else grant.caller
