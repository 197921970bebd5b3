"""Puts the credentials on each call of a channel, for calls that are asked once: the tools make no others."""

from collections.abc import Callable
from typing import Any, NamedTuple

import grpc

Said = tuple[tuple[str, str | bytes], ...]


class _Details(NamedTuple):
    method: str
    timeout: float | None
    metadata: Any
    credentials: grpc.CallCredentials | None
    wait_for_ready: bool | None
    compression: Any


class SyncSigner(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
    """For channels of threads."""

    def __init__(self, said: Callable[[], Said]) -> None:
        self._said = said

    def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401 - gRPC's
        """Sign a call."""
        return continuation(self._signed(client_call_details), request)

    intercept_unary_stream = intercept_unary_unary

    def _signed(self, details: Any) -> _Details:  # noqa: ANN401 - gRPC's
        metadata = _merged(details.metadata, self._said())
        return _Details(
            details.method,
            details.timeout,
            metadata,
            details.credentials,
            details.wait_for_ready,
            details.compression,
        )


class AioSigner(grpc.aio.UnaryUnaryClientInterceptor):
    """For channels of asyncio."""

    def __init__(self, said: Callable[[], Said]) -> None:
        self._said = said

    async def intercept_unary_unary(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401 - gRPC's
        """Sign a call."""
        return await continuation(_aio_signed(client_call_details, self._said()), request)


class AioStreamSigner(grpc.aio.UnaryStreamClientInterceptor):
    """For those of its calls that are answered with a stream."""

    def __init__(self, said: Callable[[], Said]) -> None:
        self._said = said

    async def intercept_unary_stream(self, continuation: Any, client_call_details: Any, request: Any) -> Any:  # noqa: ANN401 - gRPC's
        """Sign a call."""
        return await continuation(_aio_signed(client_call_details, self._said()), request)


def _aio_signed(details: Any, said: Said) -> grpc.aio.ClientCallDetails:  # noqa: ANN401 - gRPC's
    metadata = grpc.aio.Metadata(*_merged(details.metadata, said))
    return grpc.aio.ClientCallDetails(
        details.method, details.timeout, metadata, details.credentials, details.wait_for_ready
    )


def _merged(metadata: Any, said: Said) -> list[tuple[str, str | bytes]]:  # noqa: ANN401 - gRPC's
    """What the call says itself wins."""
    have = list(metadata or ())
    keys = {key for key, _ in have}
    return have + [pair for pair in said if pair[0] not in keys]
