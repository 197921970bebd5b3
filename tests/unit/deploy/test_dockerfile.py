"""deploy/docker/Dockerfile: what each image starts, as whom, and what it is made of."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from sred_email_consumer.settings import ConsumerSettings
from sred_email_ingress.settings import IngressSettings
from support.manifests import render

ROOT = Path(__file__).resolve().parents[3]
DOCKERFILE = (ROOT / "deploy" / "docker" / "Dockerfile").read_text(encoding="utf-8")
STAGES = dict(
    re.findall(r"^FROM runtime AS (\w+)\n(.*?)(?=^FROM |^# hadolint|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
)


@pytest.mark.parametrize("service", ["ingress", "consumer", "operator"])
def test_each_service_has_an_image_that_starts_its_program_in_the_exec_form(service: str) -> None:
    scripts = tomllib.loads((ROOT / "services" / service / "pyproject.toml").read_text())["project"]["scripts"]
    (entry,) = re.findall(r"^ENTRYPOINT (\[.*\])$", STAGES[service], re.MULTILINE)
    assert json.loads(entry) == list(scripts)


@pytest.mark.parametrize(("service", "settings"), [("ingress", IngressSettings), ("consumer", ConsumerSettings)])
def test_an_image_says_which_ports_it_listens_on(
    service: str, settings: type[IngressSettings] | type[ConsumerSettings]
) -> None:
    (ports,) = re.findall(r"^EXPOSE (.*)$", STAGES[service], re.MULTILINE)
    fields = settings.model_fields
    assert [int(port) for port in ports.split()] == [
        fields[f"{service}_{name}_listen"].default.port for name in ("grpc", "http")
    ]


def test_images_run_as_the_user_that_the_manifests_name() -> None:
    (user,) = re.findall(r"^USER (\d+):\d+$", DOCKERFILE, re.MULTILINE)
    for workload in ("ingress", "consumer", "migrate", "console"):
        assert render("overlays/production").pod(workload)["securityContext"]["runAsUser"] == int(user)


def test_all_that_is_installed_comes_from_the_lock_by_its_hashes() -> None:
    installs = re.findall(r"pip install (?:.*\\\n)*.*", DOCKERFILE)
    assert len(installs) == 2
    for install in installs:
        assert "--require-hashes" in install or "--only-binary :all:" in install
        assert "--requirement uv.lock" in install or "--constraints requirements.lock" in install


def test_nothing_but_what_the_images_are_made_of_goes_to_the_builder() -> None:
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*"
    let_in = {line.removeprefix("!") for line in lines if line.startswith("!")}
    copied = set(re.findall(r"^COPY ([\w./]+) ", DOCKERFILE, re.MULTILINE))
    assert let_in == copied
