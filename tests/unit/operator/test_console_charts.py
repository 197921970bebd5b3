"""Charts of the last hour: what is drawn where."""

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from sred.email.v1.operations_service_pb2 import MinuteStats
from sred_email_operator.console import charts

NOW_S = 1_000_000 * 60 + 30.0
BASE = charts.HEIGHT - charts.BOTTOM


def minute(ago: int, *, accepted: int = 0, sent: int = 0, p50_ms: int | None = None) -> MinuteStats:
    told = MinuteStats(at=Timestamp(seconds=(1_000_000 - ago) * 60), accepted=accepted, sent=sent)
    if p50_ms is not None:
        told.latency_p50.CopyFrom(Duration(seconds=p50_ms // 1000, nanos=p50_ms % 1000 * 1_000_000))
    return told


def test_a_minute_in_which_nothing_happened_is_zero_and_the_present_one_is_not_shown() -> None:
    chart = charts.throughput([minute(2, accepted=80, sent=40), minute(0, accepted=999_999)], NOW_S)
    accepted, sent = chart.lines
    points = accepted.path.removeprefix("M").split(" L")
    assert len(points) == 60
    assert {float(point.split()[1]) for point in points} == {float(BASE), round(BASE - 0.8 * (BASE - charts.TOP), 1)}
    assert (accepted.now, accepted.most, sent.most) == ("0", "80", "40")
    assert [rule.label for rule in chart.rules] == ["0", "50", "100"]
    assert "accepted: 0 in the last minute, 80 at most" in chart.summary


def test_latency_has_gaps_where_nothing_was_sent_and_decades_as_its_scale() -> None:
    told = [minute(ago, p50_ms=200) for ago in (9, 8, 7)] + [minute(3, p50_ms=20_000), minute(1)]
    half, nearly_all = charts.latency(told, NOW_S).lines
    assert half.path.count("M") == 1
    assert len(half.dots) == 1
    assert (half.now, half.most) == ("none", "20.0 s")
    assert (nearly_all.path, nearly_all.most) == ("", "none")
    labels = [rule.label for rule in charts.latency(told, NOW_S).rules]
    assert labels == ["100 ms", "1 s", "10 s", "100 s"]


def test_an_hour_without_any_email_can_be_drawn() -> None:
    assert [line.most for line in charts.throughput([], NOW_S).lines] == ["0", "0"]
    assert [line.most for line in charts.latency([], NOW_S).lines] == ["none", "none"]
