"""One email of each kind, as SREDSimplify might send them."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_SITE = "https://app.sredsimplify.example"


@dataclass(frozen=True, slots=True)
class Sample:
    """An email to try the system with, made from the template of its kind.

    Attributes:
        kind: Name of its `EmailKind`, without prefix.
        person: To whom it goes: the part before the `@`.
        variables: What its template wants to be told.
    """

    kind: str
    person: str
    variables: Mapping[str, Any]

    @property
    def template_id(self) -> str:
        """Id of the template of its kind."""
        return self.kind.lower().replace("_", "-")


SAMPLES = (
    Sample(
        kind="WELCOME",
        person="ada",
        variables={"name": "Ada", "company": "Northwind Robotics", "start_url": f"{_SITE}/start"},
    ),
    Sample(
        kind="EMAIL_CONFIRMATION",
        person="grace",
        variables={
            "name": "Grace",
            "confirm_url": f"{_SITE}/confirm/8f2b1c",
            "code": "482 913",
            "expires_in": "24 hours",
        },
    ),
    Sample(
        kind="PASSWORD_RESET",
        person="linus",
        variables={
            "name": "Linus",
            "reset_url": f"{_SITE}/reset/5d90aa",
            "expires_in": "one hour",
            "requested_from": "Firefox on Linux, near Montréal",
        },
    ),
    Sample(
        kind="SUBSCRIPTION_CHANGED",
        person="margaret",
        variables={
            "company": "Northwind Robotics",
            "old_plan": "Starter",
            "new_plan": "Team",
            "price": "CA$240 a month",
            "effective_on": "today",
            "next_invoice_on": "the first of next month",
            "manage_url": f"{_SITE}/settings/plan",
            "note": "Ten seats, shared projects, and a technical reviewer for each claim before you file it.",
        },
    ),
    Sample(
        kind="QUOTA_WARNING",
        person="alan",
        variables={
            "company": "Northwind Robotics",
            "quota": "document analyses",
            "used": 160,
            "limit": 200,
            "resets_on": "the first of next month",
            "upgrade_url": f"{_SITE}/settings/usage",
        },
    ),
    Sample(
        kind="SYSTEM_NOTIFICATION",
        person="katherine",
        variables={
            "title": "Planned maintenance on Sunday at 22:00 Eastern",
            "summary": "About twenty minutes, read-only.",
            "message": (
                "On Sunday from 22:00 to about 22:20 Eastern time, SREDSimplify can be read but not changed, while we "
                "move to a larger database in Montréal.\n\n"
                "Claims in progress are kept. You need not do anything."
            ),
            "details": [
                {"label": "When", "value": "Sunday, 22:00 to 22:20 Eastern"},
                {"label": "What", "value": "Read-only, no downtime"},
            ],
            "action_url": "https://status.sredsimplify.example",
            "action_label": "Follow on the status page",
            "reason": "You get this email because you have an open claim.",
        },
    ),
)
