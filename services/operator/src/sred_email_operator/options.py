"""Options that many commands share. They alone know which environment variables the command line reads."""

from typing import Annotated

import typer

DEFAULT_INGRESS_ADDRESS = "localhost:50051"
DEFAULT_TIMEOUT_S = 10.0

IngressAddress = Annotated[
    str,
    typer.Option("--address", envvar="SRED_EMAIL_INGRESS_ADDRESS", metavar="HOST:PORT", help="Where the ingress is."),
]
TimeoutSeconds = Annotated[
    float, typer.Option("--timeout", min=0.001, metavar="SECONDS", help="How long one call may take.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]
