"""The bench itself: that it measures what it says, end to end, on the smallest rows."""

import json
import subprocess
import sys
from pathlib import Path

import aiohttp
import pytest
from benchmarks.stage import TESTS, provider


@pytest.mark.timeout(180)
def test_a_quick_row_is_measured_shown_and_written(tmp_path: Path) -> None:
    result = subprocess.run(  # noqa: S603 - our own
        [
            *(sys.executable, "-m", "benchmarks", "drain_batched", "--quick"),
            *("--json", str(tmp_path / "bench.json"), "--plot", str(tmp_path / "bench.svg")),
        ],
        env={"PYTHONPATH": str(TESTS), "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    (row,) = json.loads((tmp_path / "bench.json").read_text())["rows"]
    assert row["runs"][0] > 0
    assert row["bare"][0] > 0
    assert row["notes"]["doubled"] == 0
    assert (tmp_path / "bench.svg").read_text().startswith("<svg")


async def test_the_stand_in_counts_emails_refuses_over_its_limit_and_knows_keys() -> None:
    async with provider(limit=2) as stand_in, aiohttp.ClientSession() as session:
        statuses = []
        for key, body in (("a", b'[{"from":"x"},{"from":"y"}]'), ("a", b'[{"from":"z"}]'), ("c", b"[]")):
            headers = {"Idempotency-Key": key}
            async with session.post(f"{stand_in.url}/emails/batch", data=body, headers=headers) as response:
                statuses.append(response.status)
                assert response.headers["ratelimit-limit"] == "2"
        assert statuses == [200, 409, 429]
        stats = await stand_in.stats()
    assert (stats["emails"], stats["doubled"], stats["refused"], len(stats["arrivals"])) == (2, 1, 1, 2)


def test_a_row_that_is_not_there_is_named() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "benchmarks", "nothing"],
        env={"PYTHONPATH": str(TESTS)},
        capture_output=True,
        check=False,
    )
    assert result.returncode == 2
    assert b"drain_batched" in result.stderr
