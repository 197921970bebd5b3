"""What callers of the email dispatch system use beside the generated stubs of ``sred.email.v1``."""

from sred_email_client.idempotency_key import build_idempotency_key

__all__ = ["build_idempotency_key"]
