from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from benchmarks.trials import Trials, half_width


def test_a_trial_runs_once(tmp_path: Path) -> None:
    trials = Trials("x", root=tmp_path)
    assert trials.run("set", "model", 0, lambda: {"HR@10": 0.5}) == {"HR@10": 0.5}
    assert Trials("x", root=tmp_path).run("set", "model", 0, lambda: pytest.fail("ran again")) == {"HR@10": 0.5}
    assert Trials("x", quick=True, root=tmp_path).all() == []
    (found,) = trials.all()
    assert (found.dataset, found.model, found.seed, found.metrics) == ("set", "model", 0, {"HR@10": 0.5})


def test_one_that_failed_is_no_trial(tmp_path: Path) -> None:
    trials = Trials("x", root=tmp_path)
    with pytest.raises(ZeroDivisionError):
        trials.run("set", "model", 0, lambda: {"HR@10": 1 / 0})
    assert trials.all() == []


def test_rows_are_means_over_seeds(tmp_path: Path) -> None:
    trials = Trials("x", root=tmp_path)
    for seed, value in enumerate((0.1, 0.2, 0.6)):
        trials.run("set", "MUR+IDW", seed, lambda value=value: {"HR@10": value, "HR@10/tail": value / 2})  # type: ignore[misc]
    whole, tail = trials.rows()
    assert (whole.metric, whole.group, whole.seeds) == ("HR@10", None, 3)
    assert whole.mean == pytest.approx(0.3)
    assert (tail.metric, tail.group) == ("HR@10", "tail")
    assert tail.mean == pytest.approx(0.15)


def test_differences_are_paired_by_seed(tmp_path: Path) -> None:
    trials = Trials("x", root=tmp_path)
    for seed in range(3):
        trials.run("set", "old", seed, lambda seed=seed: {"HR@10/tail": seed})  # type: ignore[misc]
        trials.run("set", "new", seed, lambda seed=seed: {"HR@10/tail": seed + 0.25})  # type: ignore[misc]
    trials.run("set", "new", 9, lambda: {"HR@10/tail": 1000.0})
    row = trials.difference("set", "new", "old", "HR@10/tail")
    assert row is not None
    assert (row.model, row.metric, row.group, row.seeds) == ("new − old", "HR@10 difference", "tail", 3)
    assert row.mean == pytest.approx(0.25)
    assert row.ci95 == pytest.approx(0)
    assert trials.difference("set", "new", "none", "HR@10") is None


def test_the_interval_is_students() -> None:
    values = [1.0, 2.0, 4.0, 7.0]
    low, high = stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert half_width(values) == pytest.approx((high - low) / 2)
    assert (low + high) / 2 == pytest.approx(np.mean(values))
    assert half_width([1.0]) is None
