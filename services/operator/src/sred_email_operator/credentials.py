"""What the command line and the console show the services: a token, maybe a certificate, and for whom they call."""

from dataclasses import dataclass, field
from pathlib import Path

import grpc

from sred_email_client import Tls
from sred_email_client.connection import is_loopback

_TOKEN_KEY = "authorization"  # noqa: S105 - no token, the name of where it goes


class CredentialsError(Exception):
    """A token or a certificate can't be used; the message quotes neither.

    Attributes:
        variable: Of the environment, which is to be changed.
    """

    def __init__(self, variable: str, reason: str) -> None:
        super().__init__(f"{variable}: {reason}")
        self.variable = variable
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Credentials:
    """What goes with each call.

    Attributes:
        token: Bearer token; empty: none.
        token_file: Holds it instead, and is read anew for each call, so that it can be replaced.
        tls: Secures the connection; None: plaintext.
        plaintext_token: Whether the token may travel in plaintext to another machine.
        operator: Who makes the calls, as they say; empty: nobody says.
    """

    token: str = field(default="", repr=False)
    token_file: Path | None = None
    tls: Tls | None = None
    plaintext_token: bool = False
    operator: str = ""

    def check(self, address: str) -> None:
        """Make sure that a service may be called with these.

        Raises:
            CredentialsError: A file can't be used, or the token would travel unencrypted.
        """
        self.metadata()
        self.channel_credentials()
        has_token = bool(self.token or self.token_file)
        if has_token and self.tls is None and not self.plaintext_token and not is_loopback(address):
            raise CredentialsError(
                "SRED_EMAIL_TLS_CA_FILE",
                f"is required to call {address} with a token, which would travel unencrypted; where the network may be "
                "trusted with it, say SRED_EMAIL_PLAINTEXT_TOKEN=allow",
            )

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """Of a call.

        Raises:
            CredentialsError: The file of the token can't be read, or what it holds is no token.
        """
        token, variable = self.token, "SRED_EMAIL_TOKEN"
        if self.token_file is not None:
            variable = "SRED_EMAIL_TOKEN_FILE"
            try:
                token = self.token_file.read_text(encoding="utf-8").strip()
            except (OSError, UnicodeError) as error:
                reason = getattr(error, "strerror", None) or "it is not UTF-8"
                raise CredentialsError(variable, f"{self.token_file} can't be read ({reason})") from error
            if not token:
                raise CredentialsError(variable, f"{self.token_file} is empty")
        if not token.isascii() or not token.isprintable() or " " in token:
            raise CredentialsError(variable, "is no token: it has characters that no token has")
        return ((_TOKEN_KEY, f"Bearer {token}"),) if token else ()

    def channel_credentials(self) -> grpc.ChannelCredentials | None:
        """Of the connection; None: plaintext.

        Raises:
            CredentialsError: A file of TLS can't be used.
        """
        if self.tls is None:
            return None
        try:
            return self.tls.credentials()
        except OSError as error:
            raise CredentialsError(
                "SRED_EMAIL_TLS_CA_FILE", f"{error.filename} can't be read ({error.strerror})"
            ) from error
        except ValueError as error:
            raise CredentialsError(
                "SRED_EMAIL_TLS_CLIENT_CERT_FILE", "goes with SRED_EMAIL_TLS_CLIENT_KEY_FILE: set both, or neither"
            ) from error
