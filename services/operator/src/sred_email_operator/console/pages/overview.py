"""The overview: what is wrong, since when, whom it hits, what to press."""

from aiohttp import web

from sred.email.v1.operations_service_pb2 import GetQueueStatsRequest
from sred_email_operator.console.rendering import render
from sred_email_operator.console.services import Reads


class OverviewPage:
    """Shows the queue at a glance."""

    def __init__(self, reads: Reads) -> None:
        self._reads = reads

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.get("/", self._show)]

    async def _show(self, request: web.Request) -> web.Response:
        stats = await self._reads.stats(GetQueueStatsRequest())
        return render(request, "overview.html", stats=stats)
