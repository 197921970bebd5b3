"""deploy/docker: the compose file is clean, and says of the services what is so."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from support.known_settings import variables_of

FOLDER = Path(__file__).resolve().parents[3] / "deploy" / "docker"
BIN = Path(sys.executable).parent
PORTS = {"ingress": {50051, 8080}, "consumer": {50052, 8081}, "console": {8082}}


@pytest.fixture(scope="module")
def services() -> dict[str, Any]:
    """What docker compose makes of the file."""
    result = subprocess.run(  # noqa: S603 - ours
        [BIN / "docker-compose", "--file", FOLDER / "compose.yaml", "config", "--format", "json"],
        env={"PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    return dict(json.loads(result.stdout)["services"])


def test_the_whole_system_is_there(services: dict[str, Any]) -> None:
    assert set(services) >= {"postgres", "redis", "migrate", *PORTS, "prometheus", "grafana"}


@pytest.mark.parametrize("process", ["migrate", *PORTS])
def test_each_variable_that_is_set_is_one_that_the_process_reads(services: dict[str, Any], process: str) -> None:
    read = variables_of(process) if process != "migrate" else variables_of("migrate") | variables_of("ingress")
    assert set(services[process]["environment"]) - read == set()


def test_whatever_goes_on_says_when_it_is_healthy_and_nothing_starts_before_what_it_needs(
    services: dict[str, Any],
) -> None:
    for name, service in services.items():
        assert ("healthcheck" in service) == (name != "migrate"), name
        for needed, how in service.get("depends_on", {}).items():
            expected = "service_completed_successfully" if needed == "migrate" else "service_healthy"
            assert how["condition"] == expected, (name, needed)


def test_redis_evicts_nothing_and_writes_down_what_it_holds(services: dict[str, Any]) -> None:
    command = " ".join(services["redis"]["command"])
    assert "--maxmemory-policy noeviction" in command
    assert "--appendonly yes" in command


@pytest.mark.parametrize("process", ["migrate", *PORTS])
def test_our_processes_write_nowhere_but_in_tmp(services: dict[str, Any], process: str) -> None:
    assert services[process]["read_only"] is True
    assert services[process]["tmpfs"] == ["/tmp"]  # noqa: S108 - where the image may write


@pytest.mark.parametrize("process", PORTS)
def test_ports_are_those_that_the_process_listens_on_and_only_this_machine_reaches_them(
    services: dict[str, Any], process: str
) -> None:
    assert {port["target"] for port in services[process]["ports"]} == PORTS[process]
    assert {port["host_ip"] for service in services.values() for port in service.get("ports", [])} == {"127.0.0.1"}
    grace = services[process]["stop_grace_period"]
    assert grace == "45s"


def test_every_file_that_is_mounted_is_there(services: dict[str, Any]) -> None:
    binds = [v["source"] for s in services.values() for v in s.get("volumes", []) if v["type"] == "bind"]
    assert len(binds) > 3
    assert [file for file in binds if not Path(file).is_file()] == []


def test_prometheus_asks_every_service_where_it_answers() -> None:
    config = yaml.safe_load((FOLDER / "prometheus.yaml").read_text())
    targets = {t for job in config["scrape_configs"] for static in job["static_configs"] for t in static["targets"]}
    assert targets == {"ingress:8080", "consumer:8081"}
