"""What emails say of the product: checked, and readable whatever colour a brand has."""

import pytest

from sred_email_templates import Product, load_templates
from sred_email_templates.product import _contrast


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("name", " ", "empty"),
        ("name", "a\nb", "one line"),
        ("name", "n" * 201, "at most 200"),
        ("url", "javascript:alert(1)", "https://"),
        ("logo_url", "data:image/png;base64,x", "https://"),
        ("brand_color", "red", "#1d4f7c"),
        ("brand_color", "#fff", "#1d4f7c"),
        ("brand_color", "#1d4f7c;background:url(x)", "#1d4f7c"),
        ("support_address", "help", "help@example.com"),
        ("support_address", "Help <help@example.com>", "help@example.com"),
        ("support_address", "help@example.com?bcc=x@y.z", "help@example.com"),
        ("postal_address", "a\r\nb", "one line"),
    ],
)
def test_a_bad_value_is_refused_with_its_reason(field: str, value: str, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Product(**{field: value})


@pytest.mark.parametrize("colour", ["#1d4f7c", "#000000", "#ffffff", "#FFD400", "#7f7f7f", "#e11d48", "#00ff66"])
def test_every_brand_colour_can_be_read(colour: str) -> None:
    product = Product(brand_color=colour)
    assert _contrast(product.on_brand, colour.lower()) >= 4.5
    assert _contrast(product.brand_on_light, "#ffffff") >= 4.5
    assert _contrast(product.brand_on_dark, "#1c2530") >= 4.5


def test_a_readable_colour_stays_as_it_is() -> None:
    assert Product(brand_color="#1d4f7c").brand_on_light == "#1d4f7c"
    assert Product(brand_color="#1d4f7c").on_brand == "#ffffff"


def test_a_logo_has_the_name_for_where_images_are_off() -> None:
    product = Product(name='Claims "R" Us', url="https://c.example", logo_url="https://c.example/logo.png")
    for template in load_templates(product).templates:
        html = template.render(template.declaration.examples).html
        assert 'src="https://c.example/logo.png" alt="Claims &#34;R&#34; Us"' in html
