"""What a local run sends and what it shows."""

from collections.abc import Sequence
from pathlib import Path

import pytest

from sred.email.v1.email_pb2 import Email, EmailKind, EmailStatus
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_ingress.contents import ContentComposer, templates_of
from sred_email_ingress.senders import SenderPolicy
from sred_email_local.demo import show_results
from sred_email_local.follow import followers
from sred_email_local.samples import SAMPLES, Sample
from sred_email_local.sending import Result, recipient, sample_request
from sred_email_local.settings import read_settings
from sred_email_local.stack import Stack
from sred_email_local.up import where_to_look
from sred_email_templates import Product

COMPOSER = ContentComposer(SenderPolicy("Test <test@example.com>"), templates_of(Product(), None), KeyRingFile(None))
KEY = Path("/ours/key")


def results(status: str, count: int = 6) -> Sequence[Result]:
    found = []
    for sample in SAMPLES[:count]:
        email = Email(status=EmailStatus.Value(f"EMAIL_STATUS_{status}"), attempts=1, provider_message_id="abc-123")
        email.created_at.FromMilliseconds(1_000)
        if status == "SUCCESS":
            email.sent_at.FromMilliseconds(1_012)
        else:
            email.last_error = "the provider's words"
        found.append(Result(sample, f"{sample.person}@example.com", email))
    return found


def test_there_is_one_sample_of_each_kind() -> None:
    kinds = {name.removeprefix("EMAIL_KIND_") for name in EmailKind.keys()} - {"UNSPECIFIED"}  # noqa: SIM118 - no dict
    assert {sample.kind for sample in SAMPLES} == kinds
    assert len(SAMPLES) == len(kinds)


@pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.kind)
def test_a_sample_is_what_the_template_of_its_kind_takes(sample: Sample) -> None:
    content, objections = COMPOSER.compose(sample_request(sample, "ada@example.com", "run"))
    assert objections == []
    for value in sample.variables.values():
        if isinstance(value, str) and value.startswith("https://"):
            assert value in content.html
            assert value in content.text


def test_a_sample_has_one_key_within_a_run_and_another_in_the_next() -> None:
    def key(run_id: str) -> str:
        return sample_request(SAMPLES[0], "ada@example.com", run_id).idempotency_key

    assert key("one") == key("one") != key("two")


def test_samples_through_resend_go_to_its_test_address() -> None:
    assert recipient(SAMPLES[0], sandbox=True) == "ada@example.com"
    assert recipient(SAMPLES[0], sandbox=False) == "delivered+ada@resend.dev"


def test_the_demo_ends_with_the_sum_and_exit_code_0_if_all_arrived(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_results(results("SUCCESS")) == 0
    output = capsys.readouterr().out
    assert output.splitlines()[-1] == "6 of 6 delivered"
    assert "\x1b" not in output
    row = next(line for line in output.splitlines() if "PASSWORD_RESET" in line)
    assert [cell.strip() for cell in row.strip("│").split("│")] == [
        "PASSWORD_RESET", "linus@example.com", "SUCCESS", "1", "12", "abc-123",
    ]  # fmt: skip


def test_the_demo_says_what_went_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    assert show_results([*results("SUCCESS", 5), *results("FAILED", 1)]) == 1
    output = capsys.readouterr().out
    assert "WELCOME: the provider's words" in output
    assert output.splitlines()[-1] == "5 of 6 delivered"


@pytest.mark.parametrize(("status", "ended"), [("RETRYING", False), ("SENDING", False), ("EXPIRED", True)])
def test_only_final_statuses_are_ends(status: str, ended: bool) -> None:
    assert results(status)[0].ended is ended


def test_the_addresses_shown_are_those_of_this_run(tmp_path: Path) -> None:
    settings = read_settings({"SRED_EMAIL_LOCAL_SANDBOX_PORT": "18025", "SRED_EMAIL_LOCAL_FOLDER": str(tmp_path)})
    text = where_to_look(Stack(settings, (), "postgresql://there", "redis://there", "sred_x", KEY))
    for place in ("http://127.0.0.1:18025/\n", "http://127.0.0.1:8080/readyz\n", " 127.0.0.1:50052\n", f" {KEY}\n"):
        assert place in text
    assert "export SRED_EMAIL_TOKEN=sred_x\n" in text


def test_with_a_key_of_resend_no_inbox_is_promised() -> None:
    text = where_to_look(
        Stack(read_settings({"RESEND_API_KEY": "re_x"}), (), "postgresql://there", "redis://there", "sred_x", KEY)
    )
    assert "through Resend" in text
    assert "8025" not in text
    assert str(KEY) not in text


def test_log_lines_carry_their_writers_name_and_nothing_of_before(tmp_path: Path) -> None:
    log = tmp_path / "ingress.log"
    log.write_text("before\n")
    first, second = followers({"ingress": log, "consumer": tmp_path / "not-there"}, coloured=False)
    with log.open("a") as writing:
        writing.write("\x1b[1mone\x1b[0m\ntw")
        writing.flush()
        assert list(first.new_lines()) == ["ingress  | one"]
        writing.write("o\n")
        writing.flush()
        assert list(first.new_lines()) == ["ingress  | two"]
    assert list(second.new_lines()) == []


def test_names_are_coloured_on_a_terminal(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.touch()
    (follower,) = followers({"ingress": log}, coloured=True)
    log.write_text("\x1b[1mone\x1b[0m\n")
    assert list(follower.new_lines()) == ["\x1b[36mingress |\x1b[0m \x1b[1mone\x1b[0m"]
