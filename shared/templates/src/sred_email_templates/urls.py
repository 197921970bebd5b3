"""Which URLs may stand in an email."""

import re
from urllib.parse import urlsplit

MAX_URL_CHARACTERS = 2048
_FORBIDDEN = re.compile("[\\s\x00-\x20\x7f-\xa0\\\\<>\"'`{}|^\u2028\u2029\u202a-\u202e\u2066-\u2069]")


def url_objection(url: str) -> str | None:
    """Why a URL may not stand in an email, in words that complete "the variable …"; None: it may.

    Only absolute http and https URLs do: ``javascript:`` and ``data:`` run code, and a name before the host
    (``https://bank.example@evil.example``) tells of another host than the one that is opened.
    """
    if len(url) > MAX_URL_CHARACTERS:
        return f"is longer than {MAX_URL_CHARACTERS} characters"
    if _FORBIDDEN.search(url):
        return "must be a URL without spaces, quotes, angle brackets and control characters: percent-encode them"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        return "must be a URL such as https://example.com/path"
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        return "must be a URL that begins with https:// or http:// and names a host"
    if "@" in parts.netloc:
        return "must be a URL without a user name before the host"
    return None
