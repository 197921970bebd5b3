"""What services are registered with, so that every call passes the gate and the guard."""

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any

import grpc
import structlog
from grpc_status import rpc_status
from prometheus_client import CollectorRegistry

from sred_email_core.access import caller
from sred_email_core.access.gate import Gate
from sred_email_core.access.tokens import Scope
from sred_email_core.call_guard import CallGuard
from sred_email_core.error_status import status_of
from sred_email_core.errors import PermissionDeniedError, UnauthenticatedError
from sred_email_core.metrics import CallMetrics

log = structlog.get_logger(__name__)

_TOLD_EVERY_S = 60.0


class GuardedServer:
    """What the generated code registers a service with."""

    def __init__(
        self,
        server: grpc.aio.Server,
        guard: CallGuard,
        gate: Gate | None = None,
        scopes: Mapping[str, Scope | None] | None = None,
        calls: CallMetrics | None = None,
    ) -> None:
        """Prepare.

        Args:
            server: That serves.
            guard: Of the calls that are let in.
            gate: Lets them in; None: it lets all in.
            scopes: What each RPC needs, by its name; None: any token. With a gate, an RPC that is not named can't be
                registered.
            calls: Where to count; None: nowhere.
        """
        self._server = server
        self._guard = guard
        self._gate = gate
        self._scopes = scopes or {}
        self._denials = _Denials(calls or CallMetrics(CollectorRegistry()))

    def add_generic_rpc_handlers(self, handlers: object) -> None:
        """Nothing: the same handlers come by name, too."""

    def add_registered_method_handlers(self, service: str, handlers: Mapping[str, Any]) -> None:
        """Register the handlers of a service, guarded.

        Not by name: gRPC waits for each method so registered in a task of its own, and looks at all with each call.

        Raises:
            KeyError: There is a gate, and nobody said what one of them needs.
        """
        rpcs = {}
        for name, handler in handlers.items():
            method = f"/{service}/{name}"
            scope = self._scopes[name] if self._gate is not None else None
            rpcs[method] = (self._guard.wrap(method, handler), scope)
        self._server.add_generic_rpc_handlers((_GuardedHandlers(rpcs, self._guard, self._gate, self._denials),))


class _GuardedHandlers(grpc.GenericRpcHandler):
    """Finds the handler of a call, by the full name of its method."""

    def __init__(
        self,
        rpcs: Mapping[str, tuple[Any, Scope | None]],
        guard: CallGuard,
        gate: Gate | None,
        denials: "_Denials",
    ) -> None:
        self._rpcs = rpcs
        self._guard = guard
        self._gate = gate
        self._denials = denials

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:  # noqa: ANN401 - a handler of any RPC
        """The handler, or one that refuses; None: the method is another service's.

        gRPC asks in the task of the call, before it reads the request: so a caller that is not let in can't make this
        process read, and one that is let in is known to whatever that task does.
        """
        method = handler_call_details.method
        rpc = self._rpcs.get(method)
        if rpc is None:
            return None
        handler, scope = rpc
        if self._gate is not None:
            try:
                caller.enter(self._gate.admit(handler_call_details.invocation_metadata, scope, method))
            except (UnauthenticatedError, PermissionDeniedError) as e:
                return self._denials.handler(e, method)
        return self._guard.choose(handler)


class _Denials:
    """Ends calls that are not let in; tells of them once a minute for each reason, so that nobody can fill the log."""

    def __init__(self, calls: CallMetrics) -> None:
        self._calls = calls
        self._untold: Counter[str] = Counter()
        self._told_at_s: dict[str, float] = {}

    def handler(self, error: UnauthenticatedError | PermissionDeniedError, method: str) -> Any:  # noqa: ANN401 - gRPC's
        async def deny(_: object, context: Any) -> None:  # noqa: ANN401 - any RPC's
            self._calls.denied.labels(error.reason).inc()
            self._tell(error, method, context.peer())
            await context.abort_with_status(rpc_status.to_status(status_of(error)))

        return grpc.stream_unary_rpc_method_handler(deny)  # of any RPC: it reads nothing

    def _tell(self, error: UnauthenticatedError | PermissionDeniedError, method: str, peer: str) -> None:
        now_s = time.monotonic()
        self._untold[error.reason] += 1
        if now_s - self._told_at_s.get(error.reason, -_TOLD_EVERY_S) < _TOLD_EVERY_S:
            return
        calls = self._untold.pop(error.reason)
        self._told_at_s[error.reason] = now_s
        log.warning("calls_denied", reason=str(error), method=method, peer=peer, calls=calls)
