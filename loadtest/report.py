"""What a run has shown: click rates with their intervals, freshness, and whether the books balance. Pure functions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from loadtest.monitor import OUTCOMES, Histogram
from loadtest.traffic import Delivery
from loadtest.visits import Visits

CONFIDENCE = 0.95
WINDOW_SHARE = 0.1
POINTS = 60


class Rate(NamedTuple):
    """Clicks per impression, and a 95 % interval."""

    rate: float
    low: float
    high: float


class Curve(NamedTuple):
    """A click rate while it changes: float64[N] each; impressions are those of the arm at the window's middle."""

    impressions: NDArray[np.float64]
    rate: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


def click_rate(clicked: NDArray[np.int64], shown: NDArray[np.int64]) -> Rate:
    """Clicks per impression over visits (int64[V] each), with an interval that respects slates.

    The items of one slate meet the same user, so their clicks are correlated and impressions are not independent
    trials; visits are, for each draws its user and its arm anew. So the visit is the cluster: the variance of the ratio
    estimator Σ clicked / Σ shown, linearised (Cochran, *Sampling Techniques*, §6), with Student's t. Where all
    visits agree there is no spread to estimate, and the exact binomial interval over impressions stands in.
    """
    visits, impressions, clicks = len(shown), int(shown.sum()), int(clicked.sum())
    if impressions == 0:
        return Rate(0.0, 0.0, 1.0)
    rate = clicks / impressions
    residuals = clicked - rate * shown
    if visits < 2 or not residuals.any():
        exact = stats.binomtest(clicks, impressions).proportion_ci(CONFIDENCE)
        return Rate(rate, float(exact.low), float(exact.high))
    error = math.sqrt(visits / (visits - 1) * float(residuals @ residuals)) / impressions
    half = float(stats.t.ppf((1 + CONFIDENCE) / 2, visits - 1)) * error
    return Rate(rate, max(0.0, rate - half), min(1.0, rate + half))


def thirds(visits: Visits) -> tuple[float, float]:
    """Click rates of the first and the last third of these visits, in their order."""
    third = max(1, len(visits.shown) // 3)
    first, last = slice(0, third), slice(-third, None)
    return tuple(click_rate(visits.clicked[part], visits.shown[part]).rate for part in (first, last))  # type: ignore[return-value]


def curve(clicked: NDArray[np.int64], shown: NDArray[np.int64]) -> Curve:
    """The click rate in windows of a tenth of the visits, which overlap; empty below 20 visits."""
    window = int(len(shown) * WINDOW_SHARE)
    if window < 2:
        return Curve(*(np.zeros(0) for _ in Curve._fields))
    starts = np.unique(np.linspace(0, len(shown) - window, POINTS).astype(int))
    rates = [click_rate(clicked[start : start + window], shown[start : start + window]) for start in starts]
    before = np.concatenate([[0], np.cumsum(shown)])
    middle = (before[starts] + before[starts + window]) / 2
    return Curve(middle, *np.array(rates).T)


def quantile(histogram: Histogram, q: float) -> float | None:
    """The q-quantile, interpolated within its bucket; the last finite bound if it lies beyond; None of nothing."""
    bounds, counts = histogram.bounds, histogram.counts
    if not len(counts) or counts[-1] == 0:
        return None
    rank = q * counts[-1]
    bucket = int(np.searchsorted(counts, rank))
    if not np.isfinite(bounds[bucket]):
        return float(bounds[bucket - 1])
    below, start = (counts[bucket - 1], bounds[bucket - 1]) if bucket else (0, 0.0)
    return float(start + (bounds[bucket] - start) * (rank - below) / (counts[bucket] - below))


def freshness_ms(histogram: Histogram) -> dict[str, float | None]:
    """p50 and p99 in milliseconds; None where nothing was observed."""
    found = {f"p{round(100 * q)}": quantile(histogram, q) for q in (0.5, 0.99)}
    return {name: None if seconds is None else round(1000 * seconds, 1) for name, seconds in found.items()}


def books_balance(delivery: Delivery, folded: Mapping[str, int] | None) -> bool:
    """Whether every accepted (event, item) came out of the fold, exactly once and under one outcome.

    What was sent without a known answer may be in the log one more time than it was accepted.
    """
    surplus = sum((folded or dict.fromkeys(OUTCOMES, 0)).values()) - delivery.accepted
    return 0 <= surplus <= delivery.unknown and delivery.lost == 0


def books(delivery: Delivery, folded: Mapping[str, int] | None) -> str:
    """One line that says whether the books balance."""
    if folded is None:
        return "The fold never answered: nothing is known of what became of the events."
    sums = " + ".join(f"{count:,} {outcome.replace('_', '-')}" for outcome, count in folded.items())
    if not books_balance(delivery, folded):
        surplus = sum(folded.values()) - delivery.accepted
        return (
            f"THE BOOKS DO NOT BALANCE: {delivery.accepted:,} accepted, {sums}: {surplus:+,} "
            f"({delivery.unknown:,} of unknown outcome, {delivery.lost:,} lost)."
        )
    line = f"The books balance: {delivery.accepted:,} accepted = {sums}"
    if delivery.unknown:
        line += f"; {delivery.unknown:,} got no answer and were sent again, so the log may hold them twice"
    return f"{line}."


def arms(visits: Visits, policies: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """What each arm (name → policy, in the order of the visits' arm numbers) came to."""
    found = {}
    for number, (name, policy) in enumerate(policies.items()):
        own = visits.of_arm(number)
        first, last = thirds(own)
        found[name] = {"policy": policy, **_row(own.clicked, own.shown), "first_third": first, "last_third": last}
    return found


def oracle(visits: Visits) -> dict[str, Any]:
    """What the best slate of every visitor would have come to, over all visits."""
    return _row(visits.oracle_clicked, visits.oracle_shown)


def recent(visits: Visits, now: float, seconds: float) -> Rate:
    """The click rate of the last seconds."""
    late = visits.where(visits.seconds >= now - seconds)
    return click_rate(late.clicked, late.shown)


def ranking(found: Mapping[str, Mapping[str, Any]]) -> Sequence[str]:
    """Names of arms, the highest click rate first."""
    return sorted(found, key=lambda name: -found[name]["click_rate"])


def _row(clicked: NDArray[np.int64], shown: NDArray[np.int64]) -> dict[str, Any]:
    rate = click_rate(clicked, shown)
    return {
        "impressions": int(shown.sum()),
        "clicks": int(clicked.sum()),
        "click_rate": rate.rate,
        "ci95": [rate.low, rate.high],
    }
