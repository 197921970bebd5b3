"""``sred-email stats``."""

import time
from datetime import UTC
from typing import Annotated

import grpc
import typer
from google.protobuf.timestamp_pb2 import Timestamp
from rich.live import Live
from rich.text import Text

from sred.email.v1.email_pb2 import Priority
from sred.email.v1.operations_service_pb2 import DispatchState, GetQueueStatsRequest, GetQueueStatsResponse, LaneStats
from sred_email_operator import output
from sred_email_operator.connection import operations_service
from sred_email_operator.options import (
    DEFAULT_CONSUMER_ADDRESS,
    DEFAULT_TIMEOUT_S,
    AsJson,
    ConsumerAddress,
    TimeoutSeconds,
)

_Watch = Annotated[bool, typer.Option("--watch", "-w", help="Go on until Ctrl-C.")]
_Interval = Annotated[
    float, typer.Option("--interval", min=0.1, metavar="SECONDS", help="With --watch: between two looks.")
]


def stats(
    *,
    watch: _Watch = False,
    interval_s: _Interval = 1.0,
    address: ConsumerAddress = DEFAULT_CONSUMER_ADDRESS,
    timeout_s: TimeoutSeconds = DEFAULT_TIMEOUT_S,
    as_json: AsJson = False,
) -> None:
    """Show how much waits where, and whether emails are sent.

    With --watch and --json each look is one object on a line of its own.
    """
    with operations_service(address) as service:
        seen = service.GetQueueStats(GetQueueStatsRequest(), timeout=timeout_s)
        if not watch:
            if as_json:
                output.show(seen, as_json=True)
            else:
                output.console().print(Text("\n".join(_lines(seen))), soft_wrap=True)
            return
        try:
            with Live(console=output.console(), auto_refresh=False) as live:
                while True:
                    if as_json:
                        output.show_line(seen)
                    else:
                        live.update(Text("\n".join(_lines(seen))), refresh=True)
                    time.sleep(interval_s)
                    seen = _look_again(service.GetQueueStats, seen, timeout_s)
        except KeyboardInterrupt:
            return


def _look_again(
    look: "grpc.UnaryUnaryMultiCallable[GetQueueStatsRequest, GetQueueStatsResponse]",
    seen: GetQueueStatsResponse,
    timeout_s: float,
) -> GetQueueStatsResponse:
    """What is to be seen now; while the consumer restarts, what was seen before.

    Raises:
        grpc.RpcError: It is no short absence.
    """
    try:
        return look(GetQueueStatsRequest(), timeout=timeout_s, wait_for_ready=True)
    except grpc.RpcError as error:
        if isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAVAILABLE:
            return seen  # PostgreSQL or Redis is away
        raise


def _lines(seen: GetQueueStatsResponse) -> list[str]:
    """What a person gets to see."""
    state = output.shown(seen.dispatch_state, DispatchState.DESCRIPTOR)
    why = f": {output.printable(seen.dispatch_reason)}" if seen.dispatch_reason else ""
    limit = f"{seen.requests_per_second:g} requests/s" if seen.requests_per_second else "no limit"
    lines = [
        f"delivery      {state}{why}",
        *([f"since         {_since(seen.dispatch_since)}"] if seen.HasField("dispatch_since") else []),
        f"limit         {limit}",
        f"retry         {seen.retry_scheduled} scheduled, {seen.retry_due} of them due",
        f"dead letters  {seen.dead_letters}",
        "",
        f"{'lane':<8}{'waiting':>10}{'in flight':>12}{'oldest':>10}",
    ]
    for lane in seen.lanes:
        oldest = output.age(lane.oldest_waiting.ToTimedelta()) if lane.HasField("oldest_waiting") else "-"
        name = output.shown(lane.priority, Priority.DESCRIPTOR)
        paused = f"  {_pause(lane)}" if lane.paused else ""
        lines.append(f"{name:<8}{lane.waiting:>10}{lane.in_flight:>12}{oldest:>10}{paused}")
    width = max([len("consumer"), *(len(output.printable(c.name)) for c in seen.consumers)])
    lines += ["", f"{'consumer':<{width}}{'in flight':>12}{'heard of':>12}"]
    for c in seen.consumers:
        lines.append(
            f"{output.printable(c.name):<{width}}{c.in_flight:>12}{output.age(c.idle.ToTimedelta()) + ' ago':>12}"
        )
    return lines


def _pause(lane: LaneStats) -> str:
    since = f" since {_since(lane.paused_since)}" if lane.HasField("paused_since") else ""
    return f"paused{since}{': ' if lane.pause_reason else ''}{output.printable(lane.pause_reason)}"


def _since(at: Timestamp) -> str:
    return f"{at.ToDatetime(UTC):%Y-%m-%d %H:%M:%S} UTC"
