"""The way to the service: where, how it is secured, and how long a call may take. Both faces of the client share it."""

import ipaddress
import json
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Literal

import grpc

from sred_email_client.errors import EmailError, FailedPreconditionError
from sred_email_client.retry import RetryPolicy
from sred_email_client.trace import trace_metadata

DEFAULT_TIMEOUT_S = 10.0
MAX_MESSAGE_BYTES = 48 << 20
OPTIONS: tuple[tuple[str, int | str], ...] = (
    # A headless service resolves to all replicas; with round_robin each call goes to the next one.
    ("grpc.service_config", json.dumps({"loadBalancingConfig": [{"round_robin": {}}]})),
    ("grpc.dns_min_time_between_resolutions_ms", 5_000),
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.min_reconnect_backoff_ms", 1_000),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    # A replica whose machine is gone is noticed within 20 s, also under a watch that is silent for hours: gRPC's own
    # default asks twice without an event, then hardly ever again. Servers allow a question each 10 s.
    ("grpc.keepalive_time_ms", 12_000),
    ("grpc.keepalive_timeout_ms", 8_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.enable_http_proxy", 0),  # the service is inside; a proxy for the web is not the way to it
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Tls:
    """An encrypted connection.

    Attributes:
        ca_file: Whom to trust, PEM; None: the authorities that gRPC brings.
        cert_file: The caller's own certificate, PEM, where the service asks for one.
        key_file: Its private key, PEM.
    """

    ca_file: Path | str | None = None
    cert_file: Path | str | None = None
    key_file: Path | str | None = None

    def credentials(self) -> grpc.ChannelCredentials:
        """Read the files.

        Raises:
            OSError: One can't be read.
            ValueError: A certificate without its key, or a key without its certificate.
        """
        if (self.cert_file is None) != (self.key_file is None):
            raise ValueError("cert_file and key_file belong together")
        ca, key, cert = (
            None if file is None else Path(file).read_bytes() for file in (self.ca_file, self.key_file, self.cert_file)
        )
        return grpc.ssl_channel_credentials(root_certificates=ca, private_key=key, certificate_chain=cert)


def is_loopback(target: str) -> bool:
    """Whether a target, ``host:port`` or one of gRPC's, is on this machine."""
    if target.startswith("unix:"):
        return True
    host = target.removeprefix("dns:///").rpartition(":")[0].strip("[]")
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


@dataclass(frozen=True, slots=True)
class Connection:
    """What a client was told about its service.

    Attributes:
        target: ``host:port``, or a target of gRPC such as ``dns:///sred-email-ingress:50051``.
        token: Sent as a bearer token with each call; a function is asked anew each time. None: no token.
        tls: None: plaintext, and a token only to this machine. ``plaintext``: to others, too.
        timeout_s: How long a call may take, repeats included, unless it says otherwise.
        retry: When calls are repeated.
        options: Channel arguments of gRPC, beside or instead of ``OPTIONS``.
    """

    target: str
    token: str | Callable[[], str] | None = field(repr=False)
    tls: Tls | Literal["plaintext"] | None
    timeout_s: float
    retry: RetryPolicy
    options: Sequence[tuple[str, int | str]]

    def __post_init__(self) -> None:
        if not self.target:
            raise ValueError("target is empty: give host:port of the ingress, such as localhost:50051")
        _positive(self.timeout_s)
        if self.token is not None and self.tls is None and not is_loopback(self.target):
            raise ValueError(
                f"the token would travel to {self.target} unencrypted: give tls=Tls(ca_file=…), or tls='plaintext' "
                "where the network may be trusted with it"
            )

    @property
    def credentials(self) -> grpc.ChannelCredentials | None:
        """Of the channel, its files read anew; None: plaintext.

        Raises:
            OSError: A file can't be read.
            ValueError: What ``tls`` names does not fit together.
        """
        return self.tls.credentials() if isinstance(self.tls, Tls) else None

    @property
    def channel_options(self) -> list[tuple[str, int | str]]:
        """Of the channel; what the caller says wins."""
        return list({**dict(OPTIONS), **dict(self.options)}.items())

    def metadata(self) -> tuple[tuple[str, str], ...]:
        """What goes with each call: the token, and the trace that the caller is in."""
        token = self.token() if callable(self.token) else self.token
        authorization = () if token is None else (("authorization", f"Bearer {token}"),)
        return (*authorization, *trace_metadata())

    def attempts(self, timeout_s: float | None) -> "Attempts":
        """Begin a call.

        Args:
            timeout_s: None: as the client was told.

        Raises:
            ValueError: It is not positive.
        """
        return Attempts(self.retry, _positive(self.timeout_s if timeout_s is None else timeout_s))


class Attempts:
    """The attempts of one call, within its deadline."""

    def __init__(self, policy: RetryPolicy, timeout_s: float) -> None:
        self._policy = policy
        self._deadline = time.monotonic() + timeout_s
        self._made = 0

    @property
    def time_left_s(self) -> float:
        """Until the deadline; never negative."""
        return max(0.0, self._deadline - time.monotonic())

    def may_have_done(self, refused: FailedPreconditionError) -> bool:
        """Whether an earlier attempt, whose answer was lost, may have done what the last one was refused for."""
        return self._made > 1 and refused.reason == "HAS_ENDED"

    def pause_after(self, error: EmailError) -> float | None:
        """How many seconds to wait before the next attempt; None: give up."""
        self._made += 1
        pause = self._policy.pause(
            error,
            attempt=self._made,
            time_left=timedelta(seconds=self.time_left_s),
            jitter=random.random(),  # noqa: S311 - no secret
        )
        return None if pause is None else pause / timedelta(seconds=1)


def _positive(timeout_s: float) -> float:
    if not timeout_s > 0:
        raise ValueError("timeout must be more than 0 seconds")
    return timeout_s
