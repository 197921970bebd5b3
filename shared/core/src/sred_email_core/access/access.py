"""Who may call this process: its gate, its certificate, and the files that they come from."""

import asyncio
from collections.abc import Sequence

from prometheus_client import CollectorRegistry

from sred_email_core.access.certificates import ServerCertificate, ServerTls, parse_certificate
from sred_email_core.access.gate import Gate
from sred_email_core.access.metrics import AccessMetrics
from sred_email_core.access.reloading import ReloadedFiles
from sred_email_core.access.settings import AccessSettings
from sred_email_core.access.tokens import TokenBook, parse_tokens


class Access:
    """What the gRPC port is guarded by.

    Attributes:
        gate: Lets calls in by their tokens; None: whoever reaches the port may call.
        tls: Secures connections; None: plaintext.
    """

    def __init__(self, settings: AccessSettings, registry: CollectorRegistry) -> None:
        """Read the files for the first time.

        Raises:
            OSError: One can't be read.
            ValueError: One can't be used.
        """
        metrics = AccessMetrics(registry)
        self.gate: Gate | None = None
        self.tls: ServerTls | None = None
        self._loops: list[ReloadedFiles[TokenBook] | ReloadedFiles[ServerCertificate]] = []
        if settings.auth == "tokens" and settings.tokens_file is not None:
            self.gate = Gate(TokenBook(()))
            self._loops.append(ReloadedFiles("tokens", [settings.tokens_file], _tokens, self.gate.replace, metrics))
        if settings.tls_cert_file is not None and settings.tls_key_file is not None:
            self.tls = ServerTls(metrics)
            paths = [settings.tls_cert_file, settings.tls_key_file]
            if settings.tls_client_ca_file is not None:
                paths.append(settings.tls_client_ca_file)
            self._loops.append(ReloadedFiles("certificate", paths, parse_certificate, self.tls.use, metrics))
        for files in self._loops:
            files.load()

    async def run(self, stop: asyncio.Event) -> None:
        """Read the files again when they change, until ``stop`` is set."""
        async with asyncio.TaskGroup() as group:
            for files in self._loops:
                group.create_task(files.run(stop))


def _tokens(contents: Sequence[bytes]) -> TokenBook:
    try:
        return parse_tokens(contents[0].decode())
    except UnicodeDecodeError as e:
        raise ValueError("is not UTF-8") from e
