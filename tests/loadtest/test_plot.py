"""The plot is drawn from many visits, few, and none; labels keep apart."""

from pathlib import Path

import numpy as np
import pytest

from loadtest import plot
from loadtest.visits import VisitLog


@pytest.mark.parametrize("count", [0, 30, 600])
def test_draws(tmp_path: Path, count: int) -> None:
    rng = np.random.default_rng(0)
    log = VisitLog()
    for number in range(count):
        arm = int(rng.integers(3))
        log.append(number / 10, arm, 10, int(rng.binomial(10, 0.1 + 0.1 * arm)), 10, int(rng.binomial(10, 0.4)))
    plot.learning(log.visits(), ["default", "greedy", "random"], tmp_path / "report" / "learning.png")
    assert (tmp_path / "report" / "learning.png").read_bytes().startswith(b"\x89PNG")


def test_labels_keep_apart() -> None:
    placed = plot._apart([0.5, 0.1, 0.51, 0.5])
    assert placed[1] == 0.1
    assert np.diff(np.sort(placed)).min() >= plot.LEAST_GAP - 1e-9
    assert placed[0] == 0.5
