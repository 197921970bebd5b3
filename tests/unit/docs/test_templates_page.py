"""docs/templates.md says what is so: its table, its examples and its pictures."""

import re
from pathlib import Path

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred_email_core.encryption.key_ring_file import KeyRingFile
from sred_email_ingress.contents import ContentComposer
from sred_email_ingress.senders import SenderPolicy
from sred_email_ingress.validation import find_violations
from sred_email_templates import Product, load_templates

ROOT = Path(__file__).resolve().parents[3]
PAGE = (ROOT / "docs" / "templates.md").read_text(encoding="utf-8")


def block(language: str) -> str:
    (found,) = re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    return str(found)


def names(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_table_names_each_template_its_kind_and_its_variables() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| ([A-Z_]+) \| (.*?) \| (.*?) \|$", PAGE, re.MULTILINE)
    shown = {template_id: (kind, names(needs), names(may)) for template_id, kind, needs, may in rows}
    assert shown == {
        template.declaration.id: (
            template.declaration.kind,
            [v.name for v in template.declaration.variables.values() if not v.optional],
            [v.name for v in template.declaration.variables.values() if v.optional],
        )
        for template in load_templates(Product()).templates
    }


def test_the_request_of_the_page_is_accepted() -> None:
    scope: dict[str, object] = {}
    exec(block("python"), scope)  # noqa: S102 - the page's own code
    request = scope["request"]
    assert isinstance(request, SendEmailRequest)
    assert find_violations(request) == []
    composer = ContentComposer(SenderPolicy("Test <test@example.com>"), load_templates(Product()), KeyRingFile(None))
    assert composer.compose(request)[1] == []


def test_the_template_of_the_page_works(tmp_path: Path) -> None:
    for suffix, content in (("toml", block("toml")), ("mjml", block("html")), ("txt", block("jinja"))):
        (tmp_path / f"invoice.{suffix}").write_text(content, encoding="utf-8")
    template = load_templates(Product(), tmp_path).get("invoice")
    email = template.render(template.declaration.examples)
    assert email.subject == "Invoice 2026-11 of SREDSimplify"
    assert email.text.startswith("Invoice 2026-11\n\nSeats: CA$240\n")
    assert '<td>Seats</td><td align="right">CA$240</td>' in email.html


def test_the_pictures_are_there_and_small() -> None:
    pictures = [ROOT / "docs" / path for path in re.findall(r"\((templates/[\w-]+\.png)\)", PAGE)]
    assert len(pictures) == 4
    assert sum(picture.stat().st_size for picture in pictures) < 300_000
