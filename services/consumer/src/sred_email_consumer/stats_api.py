"""What is to be seen at a glance, in the words of the contract."""

from datetime import datetime, timedelta

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1 import email_pb2
from sred.email.v1 import operations_service_pb2 as pb
from sred_email_consumer.overview import Glance
from sred_email_core.email_send_log.minutes import Minute
from sred_email_core.queue.stats import LaneStats

_MEDIAN, _NEARLY_ALL = 0.5, 0.99


def queue_stats(seen: Glance, requests_per_second: float) -> pb.GetQueueStatsResponse:
    """Everything at a glance.

    Args:
        seen: It.
        requests_per_second: The limit in force; 0: none.
    """
    dispatch = seen.queue.dispatch
    return pb.GetQueueStatsResponse(
        lanes=[_lane(lane, seen) for lane in seen.queue.lanes],
        retry_scheduled=seen.queue.retry_scheduled,
        retry_due=seen.queue.retry_due,
        dead_letters=seen.dead_letters,
        consumers=[
            pb.ConsumerStats(name=c.name, in_flight=c.in_flight, idle=_duration(c.idle)) for c in seen.queue.consumers
        ],
        dispatch_state=_dispatch_state(dispatch.state),
        dispatch_reason=dispatch.reason,
        requests_per_second=requests_per_second,
        dispatch_since=_timestamp(seen.stopped_since),
        minutes=map(_minute, seen.minutes),
    )


def _lane(lane: LaneStats, seen: Glance) -> pb.LaneStats:
    paused = lane.lane in seen.queue.dispatch.paused
    pause = seen.pauses.get(lane.lane) if paused else None
    return pb.LaneStats(
        priority=email_pb2.Priority.Value(f"PRIORITY_{lane.lane.name}"),
        waiting=lane.waiting,
        in_flight=lane.in_flight,
        oldest_waiting=_duration(lane.oldest_waiting),
        paused=paused,
        pause_reason=pause.reason if pause else "",
        paused_since=_timestamp(pause.since if pause else None),
    )


def _minute(minute: Minute) -> pb.MinuteStats:
    return pb.MinuteStats(
        at=_timestamp(minute.at),
        accepted=minute.accepted,
        sent=minute.sent,
        given_up=minute.given_up,
        latency_p50=_duration(minute.within(_MEDIAN)),
        latency_p99=_duration(minute.within(_NEARLY_ALL)),
    )


def _dispatch_state(name: str) -> "pb.DispatchState.ValueType":
    """UNSPECIFIED: delivery is held for a reason that this version does not know."""
    full_name = f"DISPATCH_STATE_{name}"
    known = full_name in pb.DispatchState.keys()  # noqa: SIM118 - it is no dict
    return pb.DispatchState.Value(full_name) if known else pb.DISPATCH_STATE_UNSPECIFIED


def _duration(delta: timedelta | None) -> Duration | None:
    if delta is None:
        return None
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration


def _timestamp(at: datetime | None) -> Timestamp | None:
    if at is None:
        return None
    stamp = Timestamp()
    stamp.FromDatetime(at)
    return stamp
