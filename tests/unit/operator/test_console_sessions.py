"""Who is let in: what cookies prove, and what they do not."""

from aiohttp import web
from aiohttp.test_utils import make_mocked_request

from sred_email_operator.console.sessions import OpenDoor, Session, TokenDoor
from sred_email_operator.console.settings import ConsoleSettings, Login

HERE = ConsoleSettings(token="the-token-of-this-console")
SESSION = Session("Ada", "a-key")


def cookie_of(door: TokenDoor | OpenDoor, session: Session = SESSION) -> str:
    response = web.Response()
    door.keep(response, session)
    (morsel,) = response.cookies.values()
    return f"{morsel.key}={morsel.value}"


def asking(cookie: str, **headers: str) -> web.Request:
    return make_mocked_request("GET", "/", headers={"Cookie": cookie, **headers})


def test_replicas_with_the_same_token_know_each_others_sessions() -> None:
    assert TokenDoor(HERE).session_of(asking(cookie_of(TokenDoor(HERE)))) == SESSION


def test_another_token_and_a_changed_cookie_end_the_session() -> None:
    cookie = cookie_of(TokenDoor(HERE))
    assert TokenDoor(ConsoleSettings(token="the-token-after-that")).session_of(asking(cookie)) is None
    other = "A" if cookie[-2] != "A" else "B"  # not the last one: some of its bits mean nothing
    for changed in (cookie[:-2] + other + cookie[-1], cookie.partition("=")[0] + "=", "other=1"):
        assert TokenDoor(HERE).session_of(asking(changed)) is None


def test_with_https_the_cookie_goes_over_https_only_and_belongs_to_this_host() -> None:
    response = web.Response()
    TokenDoor(ConsoleSettings(token=HERE.token, public_url="https://email.example.com")).keep(response, SESSION)
    written = response.cookies["__Host-console-session"].OutputString()
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(written.split("; "))
    assert "Domain" not in written


def test_behind_a_proxy_the_name_is_what_it_says_without_what_could_steer_a_terminal() -> None:
    door = OpenDoor(ConsoleSettings(login=Login.PROXY, user_header="X-User"))
    session = door.session_of(asking("console-forms=a-key", **{"X-User": "Ada\x1b[31m" + "x" * 200}))
    assert session is not None
    assert session.operator == ("Ada[31m" + "x" * 200)[:100]
    assert (session.key, session.fresh) == ("a-key", False)
    assert door.session_of(asking("console-forms=a-key")) is None
