from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from rich.progress import Progress

from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import before
from offline.training.epochs import best_epochs
from offline.training.features import describe
from offline.training.loop import Stage, Training
from tests.offline.conftest import TRAIN


@pytest.fixture
def training(data: Dataset, tmp_path: Path) -> Training:
    earlier = before(data.timelines, microseconds(data.split.validation_start))
    return Training(earlier, len(data.items), describe(data, earlier, TRAIN), TRAIN, tmp_path)


def test_stops_when_validation_no_longer_improves_and_keeps_the_best(training: Training) -> None:
    said = iter([0.0, 0.1, 0.3, 0.2, 0.25, 0.9])
    after = []

    def validate(model: Training) -> float:
        after.append(_parameters(model))
        return next(said)

    stage = Stage("plain", training.optimiser(0.01, 20), training.batches.frequencies, 20, 2)
    with Progress(disable=True) as progress:
        record = training.run(stage, progress, "search", validate)
        assert record == [0.0, 0.1, 0.3, 0.2, 0.25]
        assert best_epochs(record) == 2
        assert training.epochs == 4
        assert np.array_equal(_parameters(training), after[2])
        assert not np.array_equal(after[2], after[4])
        # The optimiser's memory is that epoch's too.
        assert int(stage.optimiser.taken[...]) == 2 * len(training.batches)
        # A stage that is done is taken up as it ended.
        training.epochs = 0
        assert training.run(stage, progress, "search", validate) == record
        assert np.array_equal(_parameters(training), after[2])


def test_a_stage_that_brings_nothing_leaves_the_model_alone(training: Training) -> None:
    before, said = _parameters(training), iter([0.5, 0.4])
    stage = Stage("round-1", training.optimiser(0.01, 20), training.batches.frequencies, 5, 1)
    with Progress(disable=True) as progress:
        record = training.run(stage, progress, "search", lambda _: next(said))
    assert best_epochs(record) == 0
    assert np.array_equal(_parameters(training), before)


def test_a_stages_masses_become_the_weights_of_targets(training: Training) -> None:
    mass = np.zeros(len(training.batches.ids))
    mass[np.argmax(training.batches.frequencies)] = 1
    with Progress(disable=True) as progress:
        training.run(Stage("round-1", training.optimiser(0.01), mass, 1, 1), progress, "")
    assert np.flatnonzero(training.batches.weights).tolist() == [int(np.argmax(mass))]
    assert (training.batches.weights * training.batches.frequencies).sum() == pytest.approx(1)


def _parameters(training: Training) -> np.ndarray:
    leaves = nnx.to_flat_state(nnx.state(training.model, nnx.Param))
    return np.concatenate([np.asarray(value[...]).ravel() for _, value in leaves])
