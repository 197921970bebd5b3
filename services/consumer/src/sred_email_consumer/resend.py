"""The provider: Resend's API over HTTPS."""

import functools
import io
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import aiohttp
import structlog
from opentelemetry.trace import Span
from yarl import URL

from sred_email_consumer.outcome import Accepted, Failure, FailureKind, interpret
from sred_email_consumer.serializer import BATCH_ENDPOINT
from sred_email_consumer.spans import RequestSpans, tell_no_answer, tell_status
from sred_email_core.tracing import Tracing, propagated

log = structlog.get_logger(__name__)

_MAX_ANSWER_BYTES = 1024 * 1024
"""An answer to 100 emails has about 10 kB."""
_MAX_BYTES_AT_ONCE = 1024 * 1024
"""Larger bodies are written in pieces, so that other requests get their turn."""


class ApiKey:
    """The bearer token; a file that it comes from is read again when it changes."""

    def __init__(self, value: str | None, file: Path | None) -> None:
        self._value = value or ""
        self._file = file
        self._seen: object = self
        self.refresh()

    @property
    def value(self) -> str:
        """The token. Never log it."""
        return self._value

    def forget(self) -> None:
        """Read the file anew at the next refresh, also if it looks as it did."""
        self._seen = self

    def refresh(self) -> None:
        """Read the file if it has changed; one that can't be read or used leaves the token as it is.

        Asked before each request, so that the first probe after the mend has the new key, whichever replica makes it.
        """
        if self._file is None:
            return
        try:
            now = self._file.stat()
            seen: object = (now.st_ino, now.st_mtime_ns, now.st_ctime_ns, now.st_size)
        except OSError as e:
            seen = type(e).__name__
        if seen == self._seen:
            return
        self._seen = seen
        try:
            value = self._file.read_text().strip()
        except (OSError, UnicodeError) as e:
            log.warning("api_key_file_unreadable", file=str(self._file), reason=type(e).__name__)
            return
        if _is_header(value) or not self.usable:
            self._value = value
        else:
            log.warning("api_key_file_unreadable", file=str(self._file), reason="empty, or not one line")

    @property
    def usable(self) -> bool:
        """Whether it can stand in a header at all."""
        return _is_header(self._value)


@dataclass(frozen=True, slots=True)
class Request:
    """One POST.

    Attributes:
        endpoint: Path of the API.
        idempotency_key: Of the send.
        body: As the send remembers its hash.
        emails: How many it carries.
        repeats: How often the same was posted before.
    """

    endpoint: str
    idempotency_key: str
    body: bytes
    emails: int
    repeats: int = 0


class ResendClient:
    """Posts sends on one pooled session, and says what came of it. It never raises for what the network does."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, key: ApiKey, spans: RequestSpans | None = None
    ) -> None:
        self._session = session
        self._spans = spans or RequestSpans(Tracing(), base_url)
        self._base_url = base_url.rstrip("/")
        self._key = key

    async def post(self, request: Request, sent: Callable[[], None]) -> Accepted | Failure:
        """Make one request and wait for its answer, at most the session's timeout.

        Args:
            request: What to post.
            sent: Called when it goes out, on a connection that is there, if the client is limited.
        """
        with self._spans.request(request.endpoint, request.repeats) as span:
            return await self._post(request, sent, span)

    async def _post(self, request: Request, sent: Callable[[], None], span: Span) -> Accepted | Failure:
        self._key.refresh()
        if not self._key.usable:
            self._key.forget()
            return Failure(FailureKind.MISCONFIGURED, "the API key is empty or not one line of printable ASCII")
        headers = {
            "Authorization": f"Bearer {self._key.value}",
            "Content-Type": "application/json",
            "Idempotency-Key": request.idempotency_key,
            **propagated(span),  # the body stays the same
        }
        batch = request.endpoint == BATCH_ENDPOINT
        if batch:
            headers["x-batch-validation"] = "permissive"
        try:
            async with self._session.post(
                _url(self._base_url + request.endpoint),
                data=request.body if len(request.body) < _MAX_BYTES_AT_ONCE else io.BytesIO(request.body),
                headers=headers,
                allow_redirects=False,
                trace_request_ctx=sent,
            ) as response:
                tell_status(span, response.status)
                body = await _read(response)
                answer = interpret(response.status, response.headers, body, emails=request.emails, batch=batch)
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as e:
            tell_no_answer(span, e)
            return Failure(FailureKind.NOT_SENT, f"no connection: {_words(e)}")
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as e:
            tell_no_answer(span, e)
            return Failure(FailureKind.OUTCOME_UNKNOWN, f"no answer: {_words(e)}")
        if isinstance(answer, Failure) and answer.kind is FailureKind.MISCONFIGURED:
            self._key.forget()
        return answer


@asynccontextmanager
async def open_resend(
    base_url: str,
    key: ApiKey,
    *,
    timeout: timedelta,
    connections: int,
    limited: bool = True,
    tracing: Tracing | None = None,
) -> AsyncIterator[ResendClient]:
    """A client while the context is open.

    Args:
        base_url: Of the API.
        key: Its bearer token.
        timeout: Of one request, from connecting to the last byte of the answer.
        connections: The most at once.
        limited: Whether anybody wants to be told when a request goes out; to watch for it costs a tenth of a request.
        tracing: Makes spans of requests; None: nobody does.
    """
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=connections, ttl_dns_cache=30),
        timeout=aiohttp.ClientTimeout(total=timeout.total_seconds(), connect=min(5.0, timeout.total_seconds())),
        headers={"User-Agent": "sred-email-dispatch"},
        auto_decompress=True,
        cookie_jar=aiohttp.DummyCookieJar(),  # the API keeps no session
        trace_configs=[_told_when_sent()] if limited else [],
    ) as session:
        yield ResendClient(session, base_url, key, RequestSpans(tracing or Tracing(), base_url))


@functools.lru_cache(maxsize=16)
def _url(text: str) -> URL:
    """The address of an endpoint, parsed once."""
    try:
        return URL(text)
    except ValueError as e:
        raise aiohttp.InvalidURL(text) from e


def _told_when_sent() -> aiohttp.TraceConfig:
    """Calls what a request brings along when its headers are written."""

    async def told(_: aiohttp.ClientSession, context: Any, __: aiohttp.TraceRequestHeadersSentParams) -> None:  # noqa: ANN401 - aiohttp's
        if context.trace_request_ctx is not None:
            context.trace_request_ctx()

    trace = aiohttp.TraceConfig()
    trace.on_request_headers_sent.append(told)
    return trace


async def _read(response: aiohttp.ClientResponse) -> bytes:
    """The body, as far as an answer of this API can be long."""
    length = response.content_length
    if length is not None and length <= _MAX_ANSWER_BYTES and "Content-Encoding" not in response.headers:
        return await response.read()
    chunks = []
    size = 0
    async for chunk in response.content.iter_chunked(64 * 1024):
        chunks.append(chunk)
        size += len(chunk)
        if size > _MAX_ANSWER_BYTES:
            response.close()
            return b""
    return b"".join(chunks)


def _is_header(value: str) -> bool:
    return re.fullmatch(r"[\x21-\x7e]+", value) is not None


def _words(error: BaseException) -> str:
    return (str(error) or type(error).__name__)[:500]
