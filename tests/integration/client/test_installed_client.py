"""The client as callers have it: a wheel in an environment with nothing else, and a process that forks."""

import os
import re
import subprocess
import sys
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest

CLIENT = Path(__file__).resolve().parents[3] / "shared" / "client"
BIN = Path(sys.executable).parent
SEND = """
import asyncio, sys
from importlib.metadata import distributions
from sred_email_client import EmailClient, InvalidRequestError, SyncEmailClient, build_idempotency_key
from sred_email_client.testing import FakeEmailClient

EMAIL = dict(kind="WELCOME", to="ada@example.com", subject="Welcome", text="Hello")

async def send(client, key):
    async with client:
        return await client.send(idempotency_key=key, **EMAIL)

def refused(client):
    try:
        client.send(idempotency_key="k", kind="WELCOME", to="nobody", subject="Hi", text="Hi")
    except InvalidRequestError as error:
        return error.violations[0].field

address = sys.argv[1]
key = build_idempotency_key("WELCOME", "ada@example.com", sys.argv[2])
first = asyncio.run(send(EmailClient(address), key))
asyncio.run(send(FakeEmailClient(), key))
with SyncEmailClient(address) as client:
    again = client.send(idempotency_key=key, **EMAIL)
    print(again.email_id == first.email_id, again.deduplicated, refused(client))
print(*sorted(each.name.lower().replace("_", "-") for each in distributions()))
"""
FORK = """
import os, sys
from sred_email_client import SyncEmailClient

client = SyncEmailClient(sys.argv[1])
children = []
for number in range(2):
    child = os.fork()
    if not child:
        sent = client.send(idempotency_key=f"fork-{number}", kind="WELCOME", to="a@b.example", subject="Hi", text="Hi")
        os._exit(0 if sent.email_id else 1)
    children.append(child)
sys.exit(max(os.waitpid(child, 0)[1] for child in children))
"""


def run(*command: str | Path) -> str:
    env = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "VIRTUAL_ENV")}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)  # noqa: S603 - our own
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    run(BIN / "uv", "build", "--quiet", "--wheel", "--out-dir", folder, CLIENT)
    (built,) = folder.glob("*.whl")
    return built


@pytest.mark.parametrize("bounds", ["lowest", "newest"])
def test_the_wheel_sends_from_an_environment_with_grpcio_and_protobuf_only(
    wheel: Path, tmp_path: Path, ingress_address: str, bounds: str
) -> None:
    environment = tmp_path / bounds
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, environment)
    pins = lowest_bounds() if bounds == "lowest" else [f"{name}=={version(name)}" for name in ("grpcio", "protobuf")]
    python = environment / "bin" / "python"
    run(BIN / "uv", "pip", "install", "--quiet", "--python", python, wheel, *pins)
    result, installed = run(python, "-I", "-W", "error", "-c", SEND, ingress_address, bounds).splitlines()
    assert result == "True True to[0]"
    assert installed.split() == ["grpcio", "protobuf", "sred-email-client", "typing-extensions"]


def test_a_client_made_before_a_fork_works_in_every_child(ingress_address: str) -> None:
    run(sys.executable, "-W", "error", "-c", FORK, ingress_address)


def lowest_bounds() -> list[str]:
    project = tomllib.loads((CLIENT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return [re.sub(r">=([\d.]+).*", r"==\1", dependency) for dependency in project["dependencies"]]
