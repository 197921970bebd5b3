"""What the console shows of one email."""

from unit.operator.console_served import said, serving
from unit.operator.ingress_double import EMAIL_ID, IngressDouble, email

from sred_email_operator.console.settings import ConsoleSettings, Login


async def test_an_email_tells_whose_token_it_came_with(ingress: IngressDouble) -> None:
    ingress.states = [email(caller="shop")]
    async with serving(ConsoleSettings(login=Login.OFF), ingress.address) as server:
        status, page = await said(server, f"GET /emails/{EMAIL_ID} HTTP/1.1\nHost: localhost")
    assert status == 200
    assert "<dt>Caller</dt><dd>shop</dd>" in page
