"""A template on its way through the running pair: what the provider gets is the rendered email, once."""

from google.protobuf.struct_pb2 import Struct

from sred.email.v1.dispatch_service_pb2 import SendEmailRequest
from sred.email.v1.email_pb2 import EMAIL_KIND_PASSWORD_RESET, TemplateContent
from support.world import World


async def test_the_provider_gets_the_rendered_email_of_a_template_once(world: World) -> None:
    ingress, _ = await world.start_pair()
    variables = Struct()
    variables.update({"reset_url": "https://example.com/r?a=1&b=2", "expires_in": "one hour", "name": "<b>Ada</b>"})
    request = SendEmailRequest(
        idempotency_key="reset-1",
        kind=EMAIL_KIND_PASSWORD_RESET,
        to=["ada@example.com"],
        template=TemplateContent(template_id="password-reset", variables=variables),
    )
    first = await world.dispatch(ingress).SendEmail(request, timeout=30)
    again = await world.dispatch(ingress).SendEmail(request, timeout=30)
    assert (again.email_id, again.deduplicated) == (first.email_id, True)
    assert await world.wait_for(first.email_id) == "SUCCESS"
    assert (await world.get_email(first.email_id)).subject == "Choose a new password for SREDSimplify"
    (delivery,) = world.sandbox.provider.mailbox
    assert "Hello &lt;b&gt;Ada&lt;/b&gt;," in delivery.email.html
    assert "https://example.com/r?a=1&b=2" in delivery.email.text
