"""Options that many commands share. They alone know which environment variables the command line reads."""

import os
from pathlib import Path
from typing import Annotated

import typer

from sred_email_client import Tls
from sred_email_operator.credentials import Credentials
from sred_email_templates import Product

DEFAULT_INGRESS_ADDRESS = "localhost:50051"
DEFAULT_CONSUMER_ADDRESS = "localhost:50052"
DEFAULT_TIMEOUT_S = 10.0

IngressAddress = Annotated[
    str,
    typer.Option("--address", envvar="SRED_EMAIL_INGRESS_ADDRESS", metavar="HOST:PORT", help="Where the ingress is."),
]
ConsumerAddress = Annotated[
    str,
    typer.Option("--address", envvar="SRED_EMAIL_CONSUMER_ADDRESS", metavar="HOST:PORT", help="Where a consumer is."),
]
TimelineAddress = Annotated[
    str,
    typer.Option(
        "--consumer-address", envvar="SRED_EMAIL_CONSUMER_ADDRESS", metavar="HOST:PORT", help="Where the consumer is."
    ),
]
TimeoutSeconds = Annotated[
    float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="How long one call may take.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
TemplatesDir = Annotated[
    Path | None,
    typer.Option(
        "--templates-dir",
        envvar="SRED_EMAIL_TEMPLATES_DIR",
        metavar="FOLDER",
        exists=True,
        file_okay=False,
        help="Your own templates, over the built-in ones.",
    ),
]

_PRODUCT_VARIABLES = {
    "name": "SRED_EMAIL_PRODUCT_NAME",
    "url": "SRED_EMAIL_PRODUCT_URL",
    "logo_url": "SRED_EMAIL_PRODUCT_LOGO_URL",
    "brand_color": "SRED_EMAIL_BRAND_COLOR",
    "support_address": "SRED_EMAIL_SUPPORT_ADDRESS",
    "postal_address": "SRED_EMAIL_POSTAL_ADDRESS",
}


def product_from_environment() -> Product:
    """Read what emails say of the product, from the variables that the ingress reads it from.

    Raises:
        typer.BadParameter: One of them is wrong.
    """
    said = {field: os.environ[name] for field, name in _PRODUCT_VARIABLES.items() if os.environ.get(name)}
    for field, value in said.items():
        try:
            Product(**{field: value})
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint=_PRODUCT_VARIABLES[field]) from error
    return Product(**said)


def credentials_from_environment() -> Credentials:
    """Read what the services are shown.

    Raises:
        typer.BadParameter: A variable is wrong.
    """

    def said(name: str) -> str:
        return os.environ.get(f"SRED_EMAIL_{name}", "").strip()

    if said("TOKEN") and said("TOKEN_FILE"):
        raise typer.BadParameter(
            "is set, and SRED_EMAIL_TOKEN_FILE, too: unset one of them", param_hint="SRED_EMAIL_TOKEN"
        )
    if said("PLAINTEXT_TOKEN") not in ("", "allow"):
        raise typer.BadParameter("must be allow, or unset", param_hint="SRED_EMAIL_PLAINTEXT_TOKEN")
    ca_file = said("TLS_CA_FILE")
    if not ca_file and (said("TLS_CLIENT_CERT_FILE") or said("TLS_CLIENT_KEY_FILE")):
        raise typer.BadParameter(
            "is required beside a certificate of one's own: the authorities that the services' certificates are of",
            param_hint="SRED_EMAIL_TLS_CA_FILE",
        )
    tls = None
    if ca_file:
        certificate, key = said("TLS_CLIENT_CERT_FILE") or None, said("TLS_CLIENT_KEY_FILE") or None
        tls = Tls(ca_file=ca_file, cert_file=certificate, key_file=key)
    return Credentials(
        token=said("TOKEN"),
        token_file=Path(said("TOKEN_FILE")) if said("TOKEN_FILE") else None,
        tls=tls,
        plaintext_token=said("PLAINTEXT_TOKEN") == "allow",
        operator=said("OPERATOR"),
    )
