"""A folder of one's own templates: its files win, new ones are added, and what is broken is named by file and line."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from sred_email_templates import (
    BrokenTemplatesError,
    Product,
    RenderedEmail,
    UnknownTemplateError,
    UnusableVariablesError,
    load_templates,
)

TOML = """\
about = "An invoice."
subject = "Invoice {{ number }}"

[variables.number]
meaning = "number of the invoice"
example = "2026-11"

[variables.pay_url]
meaning = "where it is paid"
type = "url"
example = "https://pay.example/1"

[variables.lines]
meaning = "what is billed"
type = "list"
fields = ["what", "amount"]
example = [{ what = "Seats", amount = "CA$240" }]

[variables.tags]
meaning = "words"
type = "list"
optional = true
example = ["a", "b"]

[variables.paid]
meaning = "whether it was paid"
type = "flag"
optional = true
example = true
"""
MJML = """\
<mj-section>
  <mj-column>
    <mj-table>
      {% for line in lines %}<tr><td>{{ line.what }}</td><td>{{ line.amount }}</td></tr>{% endfor %}
    </mj-table>
    <mj-button href="{{ pay_url }}">Pay</mj-button>
    <mj-text>{% if paid %}paid{% else %}open{% endif %}{{ tags | join(' & ') }}</mj-text>
  </mj-column>
</mj-section>
"""
TEXT = "{% for line in lines %}{{ line.what }}: {{ line.amount }}\n{% endfor %}{{ pay_url }}\n"


def folder(tmp_path: Path, files: Mapping[str, str]) -> Path:
    for name, content in files.items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    return tmp_path


def invoice(tmp_path: Path, **changed: str) -> Path:
    return folder(tmp_path, {f"invoice.{suffix}": changed.get(suffix, t) for suffix, t in FILES.items()})


FILES = {"toml": TOML, "mjml": MJML, "txt": TEXT}


def render(where: Path, **others: object) -> RenderedEmail:
    template = load_templates(Product(), where).get("invoice")
    return template.render(template.declaration.examples | others)


def problems(where: Path) -> list[str]:
    with pytest.raises(BrokenTemplatesError) as broken:
        load_templates(Product(), where)
    assert str(broken.value) == "\n".join(map(str, broken.value.problems))
    return [str(problem).replace(f"{where}/", "") for problem in broken.value.problems]


def test_new_templates_are_added_to_the_built_in_ones(tmp_path: Path) -> None:
    book = load_templates(Product(), invoice(tmp_path))
    assert len(book.templates) == 7
    email = render(tmp_path, lines=[{"what": "<Seats>", "amount": 240.0}, {"what": "Tax", "amount": "31.2"}])
    assert email.subject == "Invoice 2026-11"
    assert "<td>&lt;Seats&gt;</td><td>240</td>" in email.html
    assert "a &amp; b" in email.html
    assert "<Seats>: 240\nTax: 31.2\nhttps://pay.example/1\n" in email.text


def test_a_file_wins_over_the_built_in_one_of_its_name(tmp_path: Path) -> None:
    where = folder(tmp_path, {"password-reset.txt": "{{ reset_url }} only\n", "layout.txt": "Top\n[[content]]"})
    email = load_templates(Product(), where).get("password-reset")
    assert email.render(email.declaration.examples).text == (
        "Top\nhttps://app.sredsimplify.example/reset/5d90aa41c7 only\n"
    )
    assert "Choose a new password" in email.render(email.declaration.examples).html


def test_an_unknown_id_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UnknownTemplateError, match=r"one of email-confirmation, invoice, password-reset, .*, welcome$"):
        load_templates(Product(), invoice(tmp_path)).get("invoices")


@pytest.mark.parametrize(
    ("given", "name", "description"),
    [
        ({"lines": []}, "lines", "is empty"),
        ({"lines": "x"}, "lines", "must be a list"),
        ({"lines": [{"what": "x"}]}, "lines[0]", "must hold these fields: what, amount"),
        ({"lines": [{"what": "x", "amount": "1", "more": "2"}]}, "lines[0]", "must hold these fields: what, amount"),
        ({"lines": [{"what": "x", "amount": ["1"]}]}, "lines[0].amount", "must be a text"),
        ({"lines": [{"what": "x", "amount": "1"}] * 201}, "lines", "holds more than 200 entries"),
        ({"tags": [{"a": "b"}]}, "tags[0]", "must be a text"),
        ({"paid": "yes"}, "paid", "must be true or false"),
        ({"number": True}, "number", "must be a text"),
        ({"number": {"a": 1}}, "number", "must be a text"),
        ({"number": float("nan")}, "number", "must be a number between -2^53 and 2^53"),
        ({"number": "\x00\r\n"}, "number", "is empty"),
        ({"pay_url": 1}, "pay_url", "must be a URL, as text"),
        (
            {"nubmer<\n": "1"},
            "nubmer??",
            "is no variable of this template, which has: number, pay_url, lines, tags, paid",
        ),
    ],
)
def test_a_value_that_does_not_fit_is_named(
    tmp_path: Path, given: Mapping[str, object], name: str, description: str
) -> None:
    with pytest.raises(UnusableVariablesError) as refused:
        render(invoice(tmp_path), **given)
    ((found, said),) = [(problem.name, problem.description) for problem in refused.value.problems]
    assert (found, said) == (name, description)


def test_what_grows_beyond_all_bounds_is_refused(tmp_path: Path) -> None:
    row = "{% for a in lines %}{% for b in lines %}" + "x" * 100 + "{% endfor %}{% endfor %}"
    where = invoice(tmp_path, txt=row)
    with pytest.raises(UnusableVariablesError, match="make the email longer than 262144 characters"):
        render(where, lines=[{"what": "x", "amount": "1"}] * 200)


@pytest.mark.parametrize(
    ("changed", "found"),
    [
        ({"toml": TOML + "x y\n"}, "invoice.toml:30: "),
        ({"toml": TOML + "[variables.product]\nmeaning='m'\nexample='e'\n"}, "invoice.toml:30: variables.product: "),
        ({"toml": TOML.replace('"flag"', '"bool"')}, "invoice.toml:25: variables.paid: type must be one of"),
        ({"toml": 'kind = "BIRTHDAY"\n' + TOML}, "invoice.toml:1: kind: must be one of WELCOME, "),
        ({"toml": 'colour = "red"\n' + TOML}, "invoice.toml:1: colour: is not known"),
        ({"toml": TOML.replace("{{ number", "{{ numbre")}, "invoice.toml:2: numbre is no variable"),
        ({"toml": TOML.replace("{{ number }}", "{{ number")}, "invoice.toml:2: "),
        (
            {"toml": TOML.replace('"https://pay', '"ftp://pay')},
            "invoice.mjml: can't be rendered with its examples: pay_",
        ),
        ({"mjml": MJML.replace("{% endif %}", "")}, "invoice.mjml:7: "),
        ({"mjml": MJML.replace("line.what", "lne.what")}, "invoice.mjml:4: lne is no variable"),
        ({"mjml": MJML.replace("line.what", "line.wat")}, "invoice.mjml: can't be rendered with its examples"),
        ({"mjml": MJML.replace("line.what", "line.__class__")}, "invoice.mjml: can't be rendered with its examples"),
        ({"mjml": MJML.replace("| join", "| safe | join")}, "invoice.mjml:7: safe is no filter"),
        (
            {"mjml": MJML.replace("{{ tags", "{{ number.upper() }}{{ tags")},
            "invoice.mjml:7: templates may not use a call",
        ),
        ({"mjml": "{% include 'x' %}" + MJML}, "invoice.mjml:1: templates may not use include"),
        (
            {"mjml": "{% autoescape false %}" + MJML + "{% endautoescape %}"},
            "invoice.mjml:1: templates may not use auto",
        ),
        ({"mjml": MJML.replace("in lines", "in lines recursive")}, "invoice.mjml:4: templates may not use recursive"),
        (
            {"mjml": MJML.replace("{{ tags", "{{ 'x' * 10000000000 }}{{ tags")},
            "invoice.mjml: can't be rendered with its",
        ),
        ({"mjml": MJML.replace("{{ tags", "{{ 9 ** 99999999 }}{{ tags")}, "invoice.mjml:7: templates may not use **"),
        ({"mjml": MJML.replace("mj-table", "mj-tabel")}, "invoice.mjml:3: <mj-tabel> is no element of MJML"),
        ({"mjml": MJML.replace("</mj-column>", "")}, "invoice.mjml:9: </mj-section> closes what is not open"),
        ({"mjml": MJML.replace("</mj-section>", "")}, "invoice.mjml:1: <mj-section> is never closed"),
        ({"mjml": "<mj-text>x</mj-text>"}, "invoice.mjml:1: <mj-text> must stand inside <mj-section>"),
        (
            {"mjml": MJML.replace('"{{ pay_url }}"', '"{{ number }}"')},
            "invoice.mjml:6: href must begin with a variable",
        ),
        (
            {"mjml": MJML.replace('"{{ pay_url }}"', "{{ pay_url }}")},
            "invoice.mjml:6: a value in an attribute stands in",
        ),
        ({"mjml": MJML.replace('url }}"', 'url }}?n={{ number }}"')}, "invoice.mjml:6: what is put into a URL needs"),
        (
            {"mjml": MJML.replace("<tr>", '<tr onclick="{{ number }}">')},
            "invoice.mjml:4: onclick may not hold variables",
        ),
        (
            {"mjml": MJML.replace("<mj-button", '{% if paid %}<mj-button width="{% if paid %}1{% endif %}"')},
            "invoice.mjml",
        ),
        (
            {"mjml": MJML.replace("<tr>", '<tr style="color:{{ number }}">')},
            "invoice.mjml:4: styles may hold numbers and",
        ),
        ({"mjml": MJML.replace("<tr>", "<script>1</script><tr>")}, "invoice.mjml:4: <script> has no place in an email"),
        ({"mjml": MJML.replace("<tr>", "<style>a{}</style><tr>")}, "invoice.mjml:4: <style> has no place in an email"),
        ({"txt": TEXT + "{{ nobody }}"}, "invoice.txt:3: nobody is no variable that the template declares"),
        ({"txt": TEXT + "{% if %}"}, "invoice.txt:3: "),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_broken_template_is_named_by_file_and_line(tmp_path: Path, changed: Mapping[str, str], found: str) -> None:
    first, *_ = problems(invoice(tmp_path, **changed))
    assert first.startswith(found)


def test_urls_take_encoded_values(tmp_path: Path) -> None:
    encoded = MJML.replace('url }}"', 'url }}?n={{ number | urlencode }}"')
    assert 'href="https://pay.example/1?n=a%22%26b"' in render(invoice(tmp_path, mjml=encoded), number='a"&b').html


def test_jinja_that_mjml_has_no_place_for_is_not_lost_in_silence(tmp_path: Path) -> None:
    (problem,) = problems(invoice(tmp_path, mjml=MJML.replace("<mj-text>", '<mj-text frob="{{ number }}">')))
    assert problem == "invoice.mjml:7: MJML has no place for {{ number }}"


def test_all_broken_templates_are_named_at_once(tmp_path: Path) -> None:
    where = folder(
        tmp_path,
        {
            "welcome.txt": "{{ x }}",
            "quota-warning.mjml": "<mj-frob />",
            "new.mjml": "",
            "Upper.toml": "",
            "Upper.mjml": "",
            "Upper.txt": "",
        },
    )
    assert problems(where) == [
        "Upper.toml: must be named by 1 to 64 lower-case letters, digits and -",
        "new.mjml: has no new.toml beside it",
        "quota-warning.mjml:1: <mj-frob> is no element of MJML",
        "welcome.txt:1: x is no variable that the template declares",
    ]


def test_a_layout_needs_a_place_for_its_template(tmp_path: Path) -> None:
    assert problems(folder(tmp_path, {"layout.txt": "nothing"})) == [
        "layout.txt: must hold [[content]] once, where templates go"
    ]
    (tmp_path / "layout.txt").unlink()
    assert problems(folder(tmp_path, {"layout.mjml": "<mjml>\n<mj-body>[[content]]</mj-body>\n{{ name }}</mjml>"})) == [
        "layout.mjml:3: name is no variable that the template declares"
    ]


def test_a_folder_that_is_not_there_or_not_text_is_named(tmp_path: Path) -> None:
    with pytest.raises(BrokenTemplatesError, match="missing: can't be read: No such file"):
        load_templates(Product(), tmp_path / "missing")
    (tmp_path / "welcome.txt").write_bytes(b"\xff")
    assert problems(tmp_path) == ["welcome.txt: is not UTF-8"]
    (tmp_path / "welcome.txt").write_bytes(b"x" * (256 * 1024 + 1))
    assert problems(tmp_path) == ["welcome.txt: is larger than 262144 bytes"]
