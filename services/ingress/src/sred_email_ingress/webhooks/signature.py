"""Whether a webhook request comes from the provider."""

from collections.abc import Mapping, Sequence

SIGNED_HEADERS = ("svix-id", "svix-timestamp", "svix-signature")
_LONGEST_ID = 256


class UnsignedError(Exception):
    """The request lacks a header that a signed one has."""


class ForgedError(Exception):
    """The signature is no secret's, or is too old."""


class SignatureCheck:
    """Knows the secrets of the endpoint; while one is replaced by another, both."""

    def __init__(self, secrets: Sequence[str]) -> None:
        # Its package takes more than half a second to import: only who needs it pays for it.
        from svix.webhooks import Webhook, WebhookVerificationError  # noqa: PLC0415 - see above

        self._webhooks = [Webhook(secret) for secret in secrets]
        # Besides its own error it lets through what its parsers of base64, of text and of the header raise.
        self._refusals = (WebhookVerificationError, ValueError)

    def verify(self, headers: Mapping[str, str], body: bytes) -> str:
        """Verify a request.

        Args:
            headers: Of the request.
            body: As it came.

        Returns:
            The event's id, the same each time that it is delivered.

        Raises:
            UnsignedError: A header is missing.
            ForgedError: No secret made this signature, or not within the last five minutes.
        """
        signed = {name: headers.get(name, "") for name in SIGNED_HEADERS}
        svix_id = signed["svix-id"]
        if not all(signed.values()) or len(svix_id) > _LONGEST_ID or not svix_id.isprintable():
            raise UnsignedError(f"the headers {', '.join(SIGNED_HEADERS)} are required")
        for webhook in self._webhooks:
            try:
                webhook.verify(body, signed)
            except self._refusals:
                continue
            return svix_id
        raise ForgedError("the signature does not fit, or is older than five minutes")
