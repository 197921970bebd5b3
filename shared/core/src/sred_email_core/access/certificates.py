"""The certificate of the gRPC ports, and whose certificates their callers must show."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import grpc
import structlog
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from sred_email_core.access.metrics import AccessMetrics

log = structlog.get_logger(__name__)


class BadCertificateError(ValueError):
    """A certificate or a key can't be used; the message quotes nothing of it."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """What a server shows, and what it asks for.

    Attributes:
        chain: The certificate and those between it and its authority, PEM.
        key: Its private key, PEM.
        client_ca: Authorities whose certificates callers must show, PEM; None: callers show none.
        expires_at: The first of the chain to expire.
    """

    chain: bytes
    key: bytes = field(repr=False)
    client_ca: bytes | None
    expires_at: datetime

    def configuration(self) -> grpc.ServerCertificateConfiguration:
        """As gRPC takes it."""
        return grpc.ssl_server_certificate_configuration([(self.key, self.chain)], self.client_ca)


def check_certificates(content: bytes) -> datetime:
    """Make sure that a file holds certificates; when the first of them expires.

    Raises:
        BadCertificateError: It does not.
    """
    return min(certificate.not_valid_after_utc for certificate in _certificates(content))


def check_key(content: bytes) -> bytes:
    """Make sure that a file holds a private key; its public half.

    Raises:
        BadCertificateError: It does not.
    """
    try:
        key = load_pem_private_key(content, password=None)
    except TypeError as e:
        raise BadCertificateError("the private key is encrypted: give one without a password") from e
    except Exception as e:
        raise BadCertificateError("holds no private key in PEM") from e
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def parse_certificate(contents: Sequence[bytes]) -> ServerCertificate:
    """Read certificate, key and maybe client authorities.

    Raises:
        BadCertificateError: One can't be used, or certificate and key do not belong together.
    """
    chain, key, *client_ca = contents
    try:
        first = _certificates(chain)[0]
    except BadCertificateError as e:
        raise BadCertificateError(f"the certificate's file {e}") from e
    try:
        public = check_key(key)
    except BadCertificateError as e:
        raise BadCertificateError(f"the key's file {e}") from e
    if _public_key(first) != public:
        raise BadCertificateError("certificate and key do not belong together")
    for authorities in client_ca:
        try:
            check_certificates(authorities)
        except BadCertificateError as e:
            raise BadCertificateError(f"the client authorities' file {e}") from e
    return ServerCertificate(chain, key, client_ca[0] if client_ca else None, check_certificates(chain))


class ServerTls:
    """What new connections are secured with; those that are open go on with what they began with."""

    def __init__(self, metrics: AccessMetrics) -> None:
        self._lock = threading.Lock()
        self._certificate: ServerCertificate | None = None
        self._fresh = False
        self._expires_at = metrics.certificate_expires_at

    def use(self, certificate: ServerCertificate) -> None:
        """Secure new connections with this from now on."""
        with self._lock:
            self._certificate, self._fresh = certificate, True
        self._expires_at.set(certificate.expires_at.timestamp())
        expires_at = certificate.expires_at.isoformat()
        if certificate.expires_at <= datetime.now(UTC):
            log.error("tls_certificate_expired", expired_at=expires_at, meaning="callers that check it can't connect")
        else:
            log.info("tls_certificate_used", expires_at=expires_at, callers_show_one=certificate.client_ca is not None)

    def credentials(self) -> grpc.ServerCredentials:
        """Of the port: at least TLS 1.2; a caller's certificate is asked for if there are authorities for it."""
        certificate = self._certificate
        if certificate is None:
            raise RuntimeError("use() comes first")
        self._fresh = False
        return grpc.dynamic_ssl_server_credentials(
            certificate.configuration(),
            self._fetch,  # type: ignore[arg-type] # the stubs do not know that None is allowed
            require_client_authentication=certificate.client_ca is not None,
        )

    def _fetch(self) -> grpc.ServerCertificateConfiguration | None:
        """Asked by gRPC, in a thread of its own, before each handshake; None: nothing has changed."""
        with self._lock:
            if not self._fresh or self._certificate is None:
                return None
            self._fresh = False
            return self._certificate.configuration()


def _certificates(content: bytes) -> list[x509.Certificate]:
    try:
        return x509.load_pem_x509_certificates(content)
    except Exception as e:
        raise BadCertificateError("holds no certificate in PEM") from e


def _public_key(certificate: x509.Certificate) -> bytes:
    try:
        return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    except Exception as e:  # what is not known is no ValueError
        raise BadCertificateError("the certificate's file holds a key of a type that can't be used") from e
