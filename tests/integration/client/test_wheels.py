"""Each package that is shipped, as a wheel: it builds, and what it brings starts where nothing else is."""

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(sys.executable).parent
SHIPPED = (
    *("shared/client", "shared/core", "shared/templates"),
    *("services/ingress", "services/consumer", "services/operator"),
)


def run(*command: str | Path, code: int = 0) -> str:
    kept = ("PYTHONPATH", "VIRTUAL_ENV")
    env = {n: v for n, v in os.environ.items() if n not in kept and not n.startswith(("SRED_EMAIL_", "RESEND_"))}
    ran = subprocess.run(command, capture_output=True, text=True, env=env, check=False)  # noqa: S603 - our own
    assert ran.returncode == code, ran.stderr
    return ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("wheels")
    for package in SHIPPED:
        run(BIN / "uv", "build", "--quiet", "--wheel", "--out-dir", folder, ROOT / package)
    return sorted(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def environment(wheels: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All wheels in an empty environment, with what they ask for at the versions of the lock."""
    environment = tmp_path_factory.mktemp("environment")
    run(BIN / "uv", "venv", "--quiet", "--python", sys.executable, environment)
    python = environment / "bin" / "python"
    locked = ("--constraints", ROOT / "requirements.lock")
    run(BIN / "uv", "pip", "install", "--quiet", "--python", python, *locked, *wheels)
    return environment / "bin"


def test_each_wheel_holds_what_its_package_reads(wheels: list[Path]) -> None:
    assert len(wheels) == len(SHIPPED)
    inside = {
        wheel.name.split("-")[0].removeprefix("sred_email_"): zipfile.ZipFile(wheel).namelist() for wheel in wheels
    }
    for name, suffixes in {
        "core": (".sql", ".lua"),
        "templates": (".mjml", ".toml"),
        "operator": (".html", ".css"),
    }.items():
        for suffix in suffixes:
            assert any(file.endswith(suffix) for file in inside[name]), (name, suffix)
    assert "sred_email_client/py.typed" in inside["client"]


@pytest.mark.timeout(300)
def test_what_the_wheels_bring_starts(environment: Path) -> None:
    assert run(environment / "sred-email", "--version").startswith("sred-email 0.")
    assert run(environment / "sred-email-ingress", "--version").startswith("sred-email-ingress 0.")
    assert "SRED_EMAIL_POSTGRES_DSN: is required" in run(environment / "sred-email-consumer", code=2)
