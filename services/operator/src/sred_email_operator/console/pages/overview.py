"""The overview: what is wrong, since when, whom it hits, what to press."""

import contextlib
import time
from typing import Any

from aiohttp import web
from aiohttp_sse import sse_response

from sred_email_operator.console import charts
from sred_email_operator.console.advice import advice_for
from sred_email_operator.console.feed import Feed, Glance
from sred_email_operator.console.rendering import PAGES, render

MOST_WATCHERS = 500
"""Browsers that one replica keeps live."""
LONGEST_WATCH_S = 600.0
"""Then the browser connects anew, and shows its session again."""


class OverviewPage:
    """Shows the queue at a glance, and goes on showing it."""

    def __init__(self, feed: Feed) -> None:
        self._feed = feed

    def routes(self) -> list[web.RouteDef]:
        """Where it is."""
        return [web.get("/", self._show), web.get("/overview/events", self._go_on)]

    async def _show(self, request: web.Request) -> web.Response:
        return render(request, "overview.html", **_context(await self._feed.now()))

    async def _go_on(self, request: web.Request) -> web.StreamResponse:
        if self._feed.watchers >= MOST_WATCHERS:
            raise web.HTTPServiceUnavailable(text="Too many watch this replica of the console. Load the page anew.")
        ends = time.monotonic() + LONGEST_WATCH_S
        async with sse_response(request) as response:
            with contextlib.suppress(ConnectionResetError):  # the browser is gone
                async with contextlib.aclosing(self._feed.watch()) as watching:
                    async for glance in watching:
                        if not response.is_connected() or time.monotonic() > ends:
                            break
                        live = request.app[PAGES].fragment("overview_live.html", **_context(glance))
                        await response.send(live, event="news")
        return response


def _context(glance: Glance) -> dict[str, Any]:
    stats, now_s = glance.stats, time.time()
    context: dict[str, Any] = {"stats": stats, "failure": glance.failure, "advice": None, "shown": []}
    if stats is not None:
        context |= {
            "advice": advice_for(stats),
            "shown": [charts.throughput(stats.minutes, now_s), charts.latency(stats.minutes, now_s)],
            "frame": {"width": charts.WIDTH, "height": charts.HEIGHT, "left": charts.LEFT, "right": charts.RIGHT},
            "waiting": sum(lane.waiting for lane in stats.lanes),
            "in_flight": sum(lane.in_flight for lane in stats.lanes),
        }
    return context
