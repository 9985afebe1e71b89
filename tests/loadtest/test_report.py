"""Intervals that cover, thirds, curves, quantiles, and books."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from loadtest import report
from loadtest.monitor import Histogram
from loadtest.traffic import Delivery
from loadtest.visits import VisitLog, Visits


def slates(rng: np.random.Generator, visits: int, rate: float) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Slates of 5 or 10 items whose clicks are correlated: each user has a rate of their own around `rate`."""
    shown = rng.choice([5, 10], size=visits)
    return rng.binomial(shown, rng.beta(1, 1 / rate - 1, size=visits)), shown


def test_interval_covers_the_truth_where_clicks_of_a_slate_are_correlated() -> None:
    rng = np.random.default_rng(1)
    rates = [report.click_rate(*slates(rng, 400, 0.1)) for _ in range(400)]
    covered = np.mean([rate.low <= 0.1 <= rate.high for rate in rates])
    assert 0.92 <= covered <= 0.98
    # Impressions taken for independent trials would promise far too much.
    width = np.mean([rate.high - rate.low for rate in rates])
    assert width > 1.15 * 2 * 1.96 * np.sqrt(0.1 * 0.9 / (400 * 7.5))


def test_rate_of_little() -> None:
    none = np.zeros(0, dtype=np.int64)
    assert report.click_rate(none, none) == (0.0, 0.0, 1.0)
    rate, low, high = report.click_rate(np.array([0, 0]), np.array([10, 10]))
    assert (rate, low) == (0.0, 0.0)
    assert 0.1 < high < 0.2  # the exact interval of 0 in 20
    rate, low, high = report.click_rate(np.array([3]), np.array([10]))
    assert low < rate < high


def visits(*rows: tuple[int, int]) -> Visits:
    """One visit of ten impressions per (arm, clicks)."""
    log = VisitLog()
    for number, (arm, clicked) in enumerate(rows):
        log.append(float(number), arm, 10, clicked, 10, 3)
    return log.visits()


def test_thirds_are_of_the_visits_in_order() -> None:
    assert report.thirds(visits(*[(0, 0)] * 3, *[(0, 1)] * 3, *[(0, 2)] * 3)) == (0.0, 0.2)
    assert report.thirds(visits((0, 1), (0, 5))) == (0.1, 0.5)
    assert report.thirds(visits()) == (0.0, 0.0)


def test_arms_and_oracle() -> None:
    found = report.arms(
        visits((0, 1), (1, 4), (0, 3), (1, 4)), {"default": "calibrated", "other": "random", "idle": "x"}
    )
    assert list(found) == ["default", "other", "idle"]
    assert found["default"]["policy"] == "calibrated"
    assert (found["default"]["impressions"], found["default"]["clicks"]) == (20, 4)
    assert found["default"]["click_rate"] == pytest.approx(0.2)
    assert found["default"]["ci95"][0] < 0.2 < found["default"]["ci95"][1]
    assert (found["default"]["first_third"], found["default"]["last_third"]) == (0.1, 0.3)
    assert found["idle"]["impressions"] == 0
    assert report.ranking(found) == ["other", "default", "idle"]
    assert report.oracle(visits((0, 1), (1, 4)))["click_rate"] == pytest.approx(0.3)


def test_recent() -> None:
    assert report.recent(visits((0, 9), (0, 1), (0, 1)), now=2.5, seconds=2).rate == pytest.approx(0.1)


def test_curve_follows_a_change() -> None:
    clicked = np.concatenate([np.zeros(500), np.full(500, 5)]).astype(np.int64)
    shown = np.full(1000, 10)
    found = report.curve(clicked, shown)
    assert found.rate[0] == 0
    assert found.rate[-1] == 0.5
    assert np.all((found.low <= found.rate) & (found.rate <= found.high))
    assert np.all(np.diff(found.impressions) > 0)
    assert (found.impressions[0], found.impressions[-1]) == (500, 9500)  # the middles of the outer windows
    assert len(report.curve(clicked[:19], shown[:19]).rate) == 0


def histogram(*counts: int) -> Histogram:
    """Observations at or below 0.1, 0.2, 0.5 s and beyond."""
    found = Histogram()
    bounds = np.array([0.1, 0.2, 0.5, np.inf])
    found.update(bounds, np.zeros(4, dtype=np.int64))
    found.update(bounds, np.array(counts))
    return found


def test_quantiles_are_interpolated() -> None:
    assert report.quantile(histogram(100, 200, 200, 200), 0.5) == pytest.approx(0.1)
    assert report.quantile(histogram(0, 100, 100, 100), 0.5) == pytest.approx(0.15)
    assert report.quantile(histogram(100, 100, 100, 100), 0.25) == pytest.approx(0.025)
    assert report.quantile(histogram(0, 0, 0, 100), 0.5) == 0.5  # beyond the last bound: at least that
    assert report.quantile(histogram(0, 0, 0, 0), 0.5) is None
    assert report.quantile(Histogram(), 0.5) is None
    assert report.freshness_ms(histogram(0, 100, 100, 100)) == {"p50": 150.0, "p99": 199.0}
    assert report.freshness_ms(Histogram()) == {"p50": None, "p99": None}


def outcomes(folded: int, duplicates: int = 0, late: int = 0, dead_lettered: int = 0) -> dict[str, int]:
    return {"folded": folded, "duplicates": duplicates, "late": late, "dead_lettered": dead_lettered}


def test_books_balance_exactly_or_say_so() -> None:
    assert report.books_balance(Delivery(accepted=10), outcomes(7, 1, 1, 1))
    assert "balance: 10 accepted = 7 folded + 1 duplicates" in report.books(Delivery(accepted=10), outcomes(7, 1, 1, 1))
    for wrong in (outcomes(9), outcomes(11)):
        assert not report.books_balance(Delivery(accepted=10), wrong)
        assert "DO NOT BALANCE" in report.books(Delivery(accepted=10), wrong)
    assert not report.books_balance(Delivery(accepted=10, lost=1), outcomes(10))
    assert not report.books_balance(Delivery(accepted=10), None)
    assert "never answered" in report.books(Delivery(accepted=10), None)


def test_books_allow_for_what_was_sent_again_without_an_answer() -> None:
    delivery = Delivery(accepted=10, unknown=3)
    assert report.books_balance(delivery, outcomes(10))
    assert report.books_balance(delivery, outcomes(10, 3))
    assert not report.books_balance(delivery, outcomes(10, 4))
    assert not report.books_balance(delivery, outcomes(9))
    assert "3 got no answer" in report.books(delivery, outcomes(10, 3))
