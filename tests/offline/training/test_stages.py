from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from offline import density_weighting
from offline.config import Density, Train
from offline.data.dataset import Dataset
from offline.training import stages
from offline.training.features import describe
from offline.training.loop import Stage, Training
from offline.training.optimiser import ALL, USER_SIDE
from offline.training.stages import Aim
from tests.offline.conftest import TRAIN


def learned(
    data: Dataset, folder: Path, fruitless: str = "", **density: Any
) -> tuple[Training, list[tuple[Stage, str]]]:
    """The stages that a configuration asks for, none of them run."""
    config: Train = TRAIN.model_copy(update={"density": Density(neighbours=5, draws=500, **density)})
    training = Training(data.timelines, len(data.items), describe(data, data.timelines, config), config, folder)
    found: list[tuple[Stage, str]] = []

    def keep(stage: Stage, aim: Aim) -> int:
        found.append((stage, aim))
        return 0 if stage.name == fruitless else 1

    stages.learn(training, config, keep)
    return training, found


@pytest.mark.parametrize(
    ("density", "names"),
    [
        ({"kind": "none"}, ["plain"]),
        ({"kind": "inverse_frequency"}, ["plain", "calibration"]),
        ({"kind": "density", "calibrate": False}, ["plain", "round-1"]),
        ({"kind": "iterative", "rounds": 3}, ["plain", "round-1", "round-2", "round-3", "calibration"]),
        ({"kind": "iterative", "rounds": 3, "delta": 100.0}, ["plain", "calibration"]),
    ],
)
def test_the_stages_are_as_configured(density: dict[str, Any], names: list[str], data: Dataset, tmp_path: Path) -> None:
    training, found = learned(data, tmp_path, **density)
    assert [stage.name for stage, _ in found] == names
    aims = {"plain": "all", "calibration": "all"}
    assert [aim for _, aim in found] == [aims.get(name, "tail") for name in names]
    for stage, _ in found:
        assert stage.mass.sum() == pytest.approx(1)
        assert not stage.mass[training.batches.frequencies == 0].any()


def test_a_round_that_brings_nothing_is_the_last(data: Dataset, tmp_path: Path) -> None:
    found = learned(data, tmp_path, fruitless="round-2", kind="iterative", rounds=5)[1]
    assert [stage.name for stage, _ in found] == ["plain", "round-1", "round-2", "calibration"]


def test_plain_and_calibration_count_targets_alike_and_rounds_move_on(data: Dataset, tmp_path: Path) -> None:
    training, found = learned(data, tmp_path, kind="iterative", rounds=3, beta=0.8)
    (plain, *rounds, calibration), frequencies = [stage for stage, _ in found], training.batches.frequencies
    assert np.array_equal(plain.mass, frequencies)
    assert np.array_equal(calibration.mass, frequencies)
    assert calibration.optimiser.wrt == USER_SIDE
    assert {stage.optimiser.wrt for stage in (plain, *rounds)} == {ALL}
    assert len({id(stage.optimiser) for stage in rounds}) == 1  # its memory is kept
    assert rounds[0].optimiser is plain.optimiser
    assert calibration.optimiser is not plain.optimiser
    assert float(plain.optimiser.learning_rate[...]) == pytest.approx(TRAIN.learning_rate / 20)
    assert int(plain.optimiser.steps[...]) == 3 * Density().epochs * len(training.batches)
    masses = [frequencies, *(stage.mass for stage in rounds)]
    for before, after in pairwise(masses):
        towards = (after - 0.8 * before) / 0.2
        assert towards[frequencies > 0].min() > 0
        assert towards.sum() == pytest.approx(1)


def test_one_shot_density_takes_the_inverse_as_it_is_and_inverse_frequency_begins_with_even_masses(
    data: Dataset, tmp_path: Path
) -> None:
    training, found = learned(data, tmp_path, kind="density", clip=1.0)
    even = density_weighting.even(training.batches.frequencies)
    clipped = found[1][0].mass  # what is denser than the median gets less, nothing gets more
    assert clipped.max() < 2.5 * even.max()
    assert np.isclose(clipped, clipped.max()).sum() >= (even > 0).sum() / 2
    assert np.array_equal(learned(data, tmp_path, kind="inverse_frequency")[1][0][0].mass, even)
