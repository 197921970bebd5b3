"""What these tests call."""

from collections.abc import Iterator

import pytest

from sred_email_local.engines import PostgresServer
from support.ingress_process import running_ingress


@pytest.fixture(scope="module")
def ingress_address(postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Of an ingress that accepts emails, which nobody delivers."""
    with running_ingress(postgres, tmp_path_factory.mktemp("ingress")) as address:
        yield address
