"""Who may be the sender of an email."""

from dataclasses import dataclass

from sred_email_core.errors import FieldViolation
from sred_email_ingress.addresses import parse_address


@dataclass(frozen=True, slots=True)
class SenderPolicy:
    """Who may be the sender.

    Attributes:
        default_from: Sender of emails that name none; None: they must.
        allowed_domains: Domains to send from; None: any.
    """

    default_from: str | None = None
    allowed_domains: frozenset[str] | None = None

    def objection(self, from_address: str) -> FieldViolation | None:
        """Why an email can't be sent from this address; None: it can."""
        if not from_address:
            return FieldViolation("from_address", "is required: this service has no default sender")
        if self.allowed_domains is not None and parse_address(from_address).domain not in self.allowed_domains:
            return FieldViolation("from_address", "must be of a domain that this service may send from")
        return None
