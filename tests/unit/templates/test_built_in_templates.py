"""The six emails of the product: what mail programs and people need of each, and that hostile values stay harmless."""

import re
from collections.abc import Iterator
from html.parser import HTMLParser

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sred_email_templates import EmailTemplate, Product, RenderedEmail, UnusableVariablesError, load_templates
from sred_email_templates.declaration import KINDS, Variable, VariableType

PRODUCT = Product(
    name="Claims & Co",
    url="https://claims.example",
    support_address="help@claims.example",
    postal_address="1 Main Street, Montréal",
)
BOOK = load_templates(PRODUCT)
IDS = [template.declaration.id for template in BOOK.templates]
VOID = {"meta", "link", "br", "img", "hr", "input"}
HOSTILE = {
    "html": "<b>x</b><img src=x onerror=alert(1)>",
    "script": "</td></title><script>alert(1)</script>",
    "an attribute's end": "\"'><svg onload=alert(1)>",
    "jinja": "{{ 7 * 191 }}{% raw %}{# x",
    "mjml": "<mj-text>x</mj-text>[[content]]jinja-0-ends",
    "a header": "x\r\nBcc: evil@example.com",
    "controls": "a\x00b\x07c\x1b[31md\u2028e\u202ef\u0085g",
    "unicode": "Zoë 中文 👩\u200d🚀 עברית",
    "a comment": "--><!-- <![endif]-->",
}


@pytest.fixture(params=BOOK.templates, ids=IDS)
def template(request: pytest.FixtureRequest) -> EmailTemplate:
    found: EmailTemplate = request.param
    return found


class Outline(HTMLParser):
    """The elements of a page, and what was never closed."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.unclosed: list[str] = []
        self.words: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self.unclosed.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.unclosed.pop() == tag

    def handle_data(self, data: str) -> None:
        if not {"style", "title"} & set(self.unclosed):
            self.words += data.split()

    def of(self, tag: str) -> Iterator[dict[str, str | None]]:
        """Attributes of each element of this name."""
        return (attrs for name, attrs in self.elements if name == tag)


def rendered(template: EmailTemplate, **others: object) -> RenderedEmail:
    return template.render(template.declaration.examples | others)


def links(template: EmailTemplate) -> list[str]:
    return [v.name for v in template.declaration.variables.values() if v.type is VariableType.URL]


def written(template: EmailTemplate) -> list[Variable]:
    """The variables that hold a text."""
    kinds = (VariableType.TEXT, VariableType.PARAGRAPHS)
    return [v for v in template.declaration.variables.values() if v.type in kinds]


def test_there_is_one_template_of_each_kind() -> None:
    assert sorted(template.declaration.kind or "" for template in BOOK.templates) == sorted(KINDS)
    assert sorted(kind.lower().replace("_", "-") for kind in KINDS) == IDS


def test_the_html_is_well_formed_small_and_in_its_language(template: EmailTemplate) -> None:
    html = rendered(template).html
    outline = Outline(html)
    assert outline.unclosed == []
    (root,) = outline.of("html")
    assert root["lang"] == "en"
    assert len(html) < 30_000  # Gmail cuts at 102 kB
    assert "{{" not in html
    assert "jinja-" not in html
    assert "mj-text" not in html


def test_it_is_made_for_dark_mode_and_phones(template: EmailTemplate) -> None:
    html = rendered(template).html
    metas = {meta.get("name"): meta.get("content") for meta in Outline(html).of("meta")}
    assert metas["color-scheme"] == metas["supported-color-schemes"] == "light dark"
    assert metas["viewport"] == "width=device-width, initial-scale=1"
    assert "@media (prefers-color-scheme: dark)" in html
    assert "max-width: 479px" in html


def test_it_loads_nothing_when_it_is_opened(template: EmailTemplate) -> None:
    html = rendered(template).html
    outline = Outline(html)
    assert list(outline.of("img")) == []  # readable with images off: there are none
    assert list(outline.of("link")) == []
    assert "@import" not in html
    assert "url(" not in html


def test_the_preheader_comes_before_everything_that_is_read(template: EmailTemplate) -> None:
    html = rendered(template).html
    body = html[html.index("<body") :]
    first = re.search(r">([^<]+)<", body)
    assert first is not None
    assert len(first[1].strip()) > 10
    assert "display:none" in body[: first.start()]


def test_each_link_is_a_button_or_a_text_and_stands_in_the_text_part(template: EmailTemplate) -> None:
    email = rendered(template)
    outline = Outline(email.html)
    hrefs = [link["href"] for link in outline.of("a")]
    for name in links(template):
        url = str(template.declaration.examples[name])
        assert hrefs.count(url) == 2  # the button, and the link for where buttons do not open
        assert url in outline.words
        assert url in email.text.splitlines()


def test_product_and_footer_stand_in_both_parts(template: EmailTemplate) -> None:
    email = rendered(template)
    words = " ".join(Outline(email.html).words)
    for text in ("Claims & Co", "1 Main Street, Montréal", "help@claims.example", "You get this email because"):
        assert text in words
        assert text in email.text
    assert "Claims &amp; Co" in email.html
    assert 'href="mailto:help%40claims.example"' in email.html


def test_the_text_part_is_plain(template: EmailTemplate) -> None:
    text = rendered(template).text
    assert not re.search(r"<[a-z/!]|&[a-z]+;|\{\{|\n\n\n", text)
    assert text.endswith("\n")


def test_it_does_without_what_is_optional(template: EmailTemplate) -> None:
    needed = {n: v.example for n, v in template.declaration.variables.items() if not v.optional}
    email = template.render(needed)
    assert "None" not in email.html + email.text + email.subject
    assert not re.search(r"\bof \.|, ,| ,|  [a-z]", email.text)
    assert Outline(email.html).unclosed == []


def test_without_settings_the_product_has_a_name_and_no_links() -> None:
    for template in load_templates(Product()).templates:
        email = rendered(template)
        assert "SREDSimplify" in email.html
        assert "mailto:" not in email.html
        assert 'href=""' not in email.html
        assert "Questions?" not in email.text


@pytest.mark.parametrize("value", HOSTILE.values(), ids=HOSTILE)
def test_hostile_values_stay_harmless(template: EmailTemplate, value: str) -> None:
    plain = Outline(rendered(template, **{v.name: "x" for v in written(template)}).html)
    email = rendered(template, **{v.name: value[: v.most_characters] for v in written(template)})
    outline = Outline(email.html)
    assert [(tag, sorted(attrs)) for tag, attrs in outline.elements] == [
        (tag, sorted(attrs)) for tag, attrs in plain.elements
    ] or value in {HOSTILE["a header"], HOSTILE["controls"]}  # line breaks of paragraphs become <br>
    assert not {"script", "svg", "img", "b"} & {tag for tag, _ in outline.elements}
    assert not any(name.startswith("on") for _, attrs in outline.elements for name in attrs)
    assert outline.unclosed == []
    assert "1337" not in email.subject + email.html + email.text
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", email.html + email.text)
    assert not re.search("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e]", email.subject)


def test_line_breaks_never_make_a_second_header_of_the_subject(template: EmailTemplate) -> None:
    for variable in written(template):
        subject = rendered(template, **{variable.name: "a\r\nBcc: b@c.de"[: variable.most_characters]}).subject
        assert subject == " ".join(subject.split())


@pytest.mark.parametrize(
    "url",
    [
        "javascript:alert(1)",
        " https://example.com",
        "JaVaScRiPt:alert(1)//https://",
        "data:text/html,x",
        "//example.com",
        "https:",
        "https://",
        "example.com",
        'https://example.com/"onclick="alert(1)',
        "https://example.com/<script>",
        "https://example.com/\r\nx",
        "https://bank.example@evil.example/",
        "https://exa\\mple.com",
        "http://[::1",
        "https://example.com:99999/",
        "https://example.com/" + "x" * 2048,
    ],
)
def test_what_is_no_safe_url_is_refused_by_the_name_of_its_variable(template: EmailTemplate, url: str) -> None:
    for name in links(template):
        with pytest.raises(UnusableVariablesError) as refused:
            rendered(template, **{name: url})
        (problem,) = refused.value.problems
        assert problem.name == name
        assert len(url) < 10 or url not in problem.description


def test_a_url_that_needs_escaping_is_escaped_once(template: EmailTemplate) -> None:
    url = "https://example.com/a?b=1&c=%20é#d"
    for name in links(template):
        email = rendered(template, **{name: url})
        assert email.html.count('href="https://example.com/a?b=1&amp;c=%20é#d"') == 2
        assert url in email.text


def test_all_missing_variables_are_named_at_once(template: EmailTemplate) -> None:
    with pytest.raises(UnusableVariablesError) as refused:
        template.render({})
    needed = [name for name, variable in template.declaration.variables.items() if not variable.optional]
    assert [problem.name for problem in refused.value.problems] == needed
    assert all(problem.description.startswith("is missing") for problem in refused.value.problems)


def test_a_very_long_value_is_refused_by_name(template: EmailTemplate) -> None:
    for variable in written(template):
        with pytest.raises(UnusableVariablesError) as refused:
            rendered(template, **{variable.name: "x" * (variable.most_characters + 1)})
        (problem,) = refused.value.problems
        assert (problem.name, problem.description) == (
            variable.name,
            f"is longer than {variable.most_characters} characters",
        )


@pytest.mark.parametrize(
    ("used", "limit", "shown"),
    [(160, 200, "80 %"), (0, 200, "0 %"), (200, 200, "100 %"), (250, 200, "100 %"), (1, 0, "100 %"), (-5, 10, "0 %")],
)
def test_the_bar_of_a_quota_stays_within_its_frame(used: float, limit: float, shown: str) -> None:
    email = rendered(BOOK.get("quota-warning"), used=used, limit=limit)
    assert f">{shown}<" in email.html
    assert f"width:{shown.replace(' ', '')}" in email.html


def test_numbers_are_shown_as_people_write_them() -> None:
    email = rendered(BOOK.get("quota-warning"), used=12000.0, limit=15000.5)
    assert email.subject == "12,000 of 15,000.5 document analyses are used"


def test_a_confirmation_with_a_code_has_it_in_the_subject() -> None:
    template = BOOK.get("email-confirmation")
    assert rendered(template).subject == "482 913 is your Claims & Co code"
    assert rendered(template, code=None).subject == "Confirm your email address for Claims & Co"
    assert "type this code" not in rendered(template, code=None).html


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(max_size=20) | st.just("https://example.com/1"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["label", "value", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_is_given_becomes_an_email_or_a_refusal(template: EmailTemplate, data: st.DataObject) -> None:
    names = st.sampled_from([*template.declaration.variables, "nobody"])
    changed = data.draw(st.dictionaries(names, JSON, max_size=3))
    try:
        email = rendered(template, **changed)
    except UnusableVariablesError:
        return
    assert Outline(email.html).unclosed == []
    assert not re.search("[\x00-\x1f\x7f-\x9f]", email.subject)
