"""The product that emails come from: its name, colours and links, the same in all of them."""

import re
from dataclasses import dataclass, field

from sred_email_templates.urls import url_objection

_COLOUR = re.compile(r"#[0-9a-fA-F]{6}")
_STEERING = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
_MAX_LINE_CHARACTERS = 200
_READABLE = 4.5
"""Contrast of text. Source: https://www.w3.org/TR/WCAG22/#contrast-minimum"""
_WHITE, _BLACK = "#ffffff", "#000000"
_LIGHT_GROUND, _DARK_CARD = "#eaf1f7", "#1c2530"
"""The least favourable grounds of texts in the brand's colour; layout.mjml says the same."""


@dataclass(frozen=True, slots=True)
class Product:
    """What emails say of the product that sends them.

    Attributes:
        name: As it is written.
        url: Where the name in the header leads; empty: nowhere.
        brand_color: Of buttons and links, ``#rrggbb``.
        support_address: Where questions go; empty: emails name none.
        logo_url: An image for the header, 32 pixels high; empty: the name in writing.
        postal_address: For the footer, in one line; empty: none.
        on_brand: Colour of what is written on the brand's colour, so that it can be read.
        brand_on_light: The brand's colour, darkened as far as it must be to be read on light grounds.
        brand_on_dark: The brand's colour, lightened as far as it must be to be read in dark mode.

    Raises:
        ValueError: A value is none of its kind; the message completes "the … ".
    """

    name: str = "SREDSimplify"
    url: str = ""
    brand_color: str = "#1d4f7c"
    support_address: str = ""
    logo_url: str = ""
    postal_address: str = ""
    on_brand: str = field(init=False)
    brand_on_light: str = field(init=False)
    brand_on_dark: str = field(init=False)

    def __post_init__(self) -> None:
        if not self.name.strip():
            raise ValueError("name must not be empty")
        check_line(self.name)
        check_line(self.postal_address)
        check_colour(self.brand_color)
        check_support_address(self.support_address)
        for url in (self.url, self.logo_url):
            check_url(url)
        colour = self.brand_color.lower()
        object.__setattr__(self, "on_brand", max(_WHITE, _BLACK, key=lambda text: _contrast(text, colour)))
        object.__setattr__(self, "brand_on_light", _readable(colour, on=_LIGHT_GROUND, towards=_BLACK))
        object.__setattr__(self, "brand_on_dark", _readable(colour, on=_DARK_CARD, towards=_WHITE))


def check_line(text: str) -> str:
    """Take a short line.

    Raises:
        ValueError: It is long, or holds a line break or another control character.
    """
    if len(text) > _MAX_LINE_CHARACTERS:
        raise ValueError(f"must be at most {_MAX_LINE_CHARACTERS} characters")
    if _STEERING.search(text):
        raise ValueError("must be one line without control characters")
    return text


def check_colour(text: str) -> str:
    """Take a colour.

    Raises:
        ValueError: It is none.
    """
    if not _COLOUR.fullmatch(text):
        raise ValueError("must be a colour such as #1d4f7c")
    return text


def check_url(text: str) -> str:
    """Take a URL, or nothing.

    Raises:
        ValueError: It is no http or https URL.
    """
    objection = url_objection(text) if text else None
    if objection:
        raise ValueError(objection)
    return text


def check_support_address(text: str) -> str:
    """Take the bare address of a mailbox, or nothing.

    Raises:
        ValueError: It is none.
    """
    if text and not re.fullmatch(r"[^\s@<>\"'?&%]+@[^\s@<>\"'?&%]+\.[^\s@<>\"'?&%]+", text):
        raise ValueError("must be an address such as help@example.com")
    return check_line(text)


def _readable(colour: str, *, on: str, towards: str) -> str:
    for percent in range(0, 101, 5):
        mixed = _mix(colour, towards, percent / 100)
        if _contrast(mixed, on) >= _READABLE:
            return mixed
    return towards


def _mix(one: str, other: str, share: float) -> str:
    pairs = zip(_channels(one), _channels(other), strict=True)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in pairs)


def _contrast(one: str, other: str) -> float:
    """Source: https://www.w3.org/TR/WCAG22/#dfn-contrast-ratio."""
    darker, lighter = sorted((_luminance(one), _luminance(other)))
    return (lighter + 0.05) / (darker + 0.05)


def _luminance(colour: str) -> float:
    """Source: https://www.w3.org/TR/WCAG22/#dfn-relative-luminance."""
    shares = [value / 255 for value in _channels(colour)]
    red, green, blue = (s / 12.92 if s <= 0.04045 else ((s + 0.055) / 1.055) ** 2.4 for s in shares)  # noqa: PLR2004 - the source's
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def _channels(colour: str) -> list[int]:
    return [int(colour[start : start + 2], 16) for start in (1, 3, 5)]
