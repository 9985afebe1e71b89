"""What the monitor makes of the service's metrics."""

from __future__ import annotations

import asyncio

import aiohttp
import numpy as np
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest.monitor import Histogram, Monitor

BOUNDS = np.array([0.1, np.inf])


def test_histogram_survives_a_restart() -> None:
    histogram = Histogram()
    for counts in ([5, 10], [7, 20], [1, 2], [1, 3]):
        histogram.update(BOUNDS, np.array(counts))
    assert histogram.counts.tolist() == [2 + 1, 10 + 2 + 1]


class Exporter:
    """A server that exports whatever text it holds; nothing while that is None."""

    def __init__(self) -> None:
        self.text: str | None = None
        app = web.Application()
        app.router.add_get("/metrics", self._answer)
        self.server = TestServer(app)

    async def _answer(self, request: web.Request) -> web.Response:
        if self.text is None:
            assert request.transport is not None
            request.transport.close()
        return web.Response(text=self.text or "")


def freshness(fast: int, slow: int) -> str:
    return (
        "# TYPE om_freshness_seconds histogram\n"
        f'om_freshness_seconds_bucket{{le="0.1"}} {fast}\nom_freshness_seconds_bucket{{le="+Inf"}} {fast + slow}\n'
        f"om_freshness_seconds_count {fast + slow}\nom_freshness_seconds_sum 1.0\n"
    )


def fold(folded: int, duplicates: int, *lags: int) -> str:
    lines = [f'om_fold_lag_records{{partition="{number}"}} {lag}' for number, lag in enumerate(lags)]
    return (
        "# TYPE om_events_folded gauge\n"
        f'om_events_folded{{outcome="folded"}} {folded}\nom_events_folded{{outcome="duplicates"}} {duplicates}\n'
        'om_events_folded{outcome="implied"} 4\n# TYPE om_fold_lag_records gauge\n' + "\n".join(lines) + "\n"
    )


def test_reads_what_grew_and_outlives_silence() -> None:
    async def look() -> None:
        api, folding = Exporter(), Exporter()
        async with api.server, folding.server, aiohttp.ClientSession() as session:
            monitor = Monitor(str(api.server.make_url("")).rstrip("/"), str(folding.server.make_url("")).rstrip("/"))
            await monitor.look(session)
            assert (monitor.folded, monitor.lag) == (None, None)

            api.text, folding.text = freshness(100, 0), "# TYPE om_fold_lag_records gauge\n"
            await monitor.look(session)
            assert monitor.folded is None  # up, but it has not looked into Redis yet

            folding.text = fold(50, 1, 0, 3)
            await monitor.look(session)
            assert monitor.lag == 3
            assert monitor.folded == {"folded": 0, "duplicates": 0, "late": 0, "dead_lettered": 0}

            api.text, folding.text = freshness(130, 10), fold(80, 3, 0, 0)
            await monitor.look(session)
            assert monitor.freshness.counts.tolist() == [30, 40]
            assert monitor.lag == 0
            assert monitor.folded == {"folded": 30, "duplicates": 2, "late": 0, "dead_lettered": 0}

            folding.text = None
            await monitor.look(session)
            assert monitor.lag is None
            assert monitor.folded["folded"] == 30

    asyncio.run(look())
