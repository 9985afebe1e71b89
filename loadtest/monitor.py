"""The monitor: reads the service's own metrics while traffic runs, as Prometheus would."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

import aiohttp
import numpy as np
from numpy.typing import NDArray
from prometheus_client.parser import text_string_to_metric_families

EVERY_S = 1.0
FRESHNESS = "om_freshness_seconds"
# What every (event, item) in the log becomes, exactly one of them.
OUTCOMES = ("folded", "duplicates", "late", "dead_lettered")


class Histogram:
    """A Prometheus histogram as it grew while somebody watched, across restarts of the process that exports it.

    Attributes:
        bounds: float64[B], upper bounds, the last one infinite.
        counts: int64[B], observations at or below each bound.
    """

    def __init__(self) -> None:
        self.bounds: NDArray[np.float64] = np.zeros(0)
        self.counts: NDArray[np.int64] = np.zeros(0, dtype=np.int64)
        self._seen: NDArray[np.int64] | None = None

    def update(self, bounds: NDArray[np.float64], counts: NDArray[np.int64]) -> None:
        """Add what came since the last look; the first look is the base line."""
        if self._seen is None:
            self.bounds, self.counts = bounds, np.zeros_like(counts)
        else:
            # Fewer than before: the process began anew, all of it is new.
            self.counts = self.counts + (counts - self._seen if counts[-1] >= self._seen[-1] else counts)
        self._seen = counts


class Monitor:
    """Looks every second; a part that does not answer is asked again the next time.

    Attributes:
        freshness: seconds from a feedback event's acceptance to the changed score being served.
        folded: (event, item) pairs by outcome since the first look; None until the fold has said something.
        lag: records of the log that the fold has not folded; None while it does not answer.
    """

    def __init__(self, api_url: str, fold_url: str) -> None:
        self.freshness = Histogram()
        self.folded: dict[str, int] | None = None
        self.lag: int | None = None
        self.fold_url = fold_url
        self._urls = (f"{api_url}/metrics", f"{fold_url}/metrics")
        self._before: Mapping[str, int] | None = None

    async def run(self) -> None:
        """Look until cancelled."""
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=5)) as session:
            while True:
                await self.look(session)
                await asyncio.sleep(EVERY_S)

    async def look(self, session: aiohttp.ClientSession) -> None:
        """Read the API's and the fold's metrics once."""
        api, fold = await asyncio.gather(*(_read(session, url) for url in self._urls))
        if api is not None:
            self._read_freshness(api)
        self.lag = None
        if fold is not None:
            self._read_fold(fold)

    def _read_freshness(self, text: str) -> None:
        buckets = {
            float(sample.labels["le"]): int(sample.value)
            for family in text_string_to_metric_families(text)
            if family.name == FRESHNESS
            for sample in family.samples
            if sample.name.endswith("_bucket")
        }
        if buckets:
            bounds = np.array(sorted(buckets))
            self.freshness.update(bounds, np.array([buckets[bound] for bound in bounds], dtype=np.int64))

    def _read_fold(self, text: str) -> None:
        families = {family.name: family.samples for family in text_string_to_metric_families(text)}
        lags = families.get("om_fold_lag_records", [])
        if not lags:
            return  # it has just started, and knows of nothing yet
        totals = dict.fromkeys(OUTCOMES, 0)
        for sample in families.get("om_events_folded", []):
            totals[sample.labels["outcome"]] = int(sample.value)
        if self._before is None:
            self._before = totals
        self.lag = sum(int(sample.value) for sample in lags)
        self.folded = {outcome: totals[outcome] - self._before[outcome] for outcome in OUTCOMES}


async def _read(session: aiohttp.ClientSession, url: str) -> str | None:
    try:
        async with session.get(url) as response:
            return await response.text()
    except (aiohttp.ClientError, TimeoutError):
        return None
