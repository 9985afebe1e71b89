import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.progress import Progress, TaskID

from offline.batches import Batches
from offline.config import Density, Train
from offline.data.dataset import Dataset
from offline.training import search
from offline.training.loop import Stage
from offline.training.search import Trained
from offline.training.validation import Recalls
from tests.offline.conftest import INTERESTS, TASTES, TRAIN

LONG = TRAIN.model_copy(update={"checkpoint_steps": 15})
KINDS = pytest.mark.parametrize("config", [TRAIN, INTERESTS], ids=["two_tower", "hiformer"])


class Watched(Progress):
    """A progress bar that keeps what each task began with."""

    def __init__(self) -> None:
        super().__init__(disable=True)
        self.began: list[float] = []

    def add_task(self, *args: Any, **kwargs: Any) -> TaskID:
        self.began.append(kwargs["completed"])
        return super().add_task(*args, **kwargs)


@pytest.fixture(scope="module")
def interested(data: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    with Progress(disable=True) as progress:
        return search.train(data, INTERESTS, tmp_path_factory.mktemp("interests"), progress)


@KINDS
def test_learns_the_tastes(config: Train, trained: Trained, interested: Trained, data: Dataset) -> None:
    found = trained if config is TRAIN else interested
    assert found.vectors.users.shape == (len(data.users), config.interests, config.dimension)
    # Of the items nearest to a user, most are of the user's taste.
    number = {user: int(user[1:]) for user in data.users["user_id"].to_pylist()}
    tastes = np.array(list(number.values())) % TASTES
    scores = np.einsum("uhd,jd->uhj", found.vectors.users, found.vectors.items).max(axis=1)
    nearest = np.argsort(-scores, axis=1)[:, :5]
    assert (nearest % TASTES == tastes[:, None]).mean() > 0.8


@KINDS
def test_fresh_items_are_placed_by_their_features(
    config: Train, trained: Trained, interested: Trained, data: Dataset
) -> None:
    items = (trained if config is TRAIN else interested).vectors.items
    # Items 27–29 have no interactions before the test period, but a word that tells their taste.
    assert not np.isin([27, 28, 29], data.timelines.items).any()
    scores = items[27:] @ items[:27].T
    assert (np.argmax(scores, axis=1) % TASTES).tolist() == [0, 1, 2]


def test_takes_the_best_epoch_of_the_search(trained: Trained) -> None:
    record = trained.records["plain"]
    assert 2 <= len(record) <= 1 + TRAIN.max_epochs
    assert trained.epochs == {"plain": int(np.argmax(record))}
    assert trained.validation_users > 0


def test_the_same_seed_gives_the_same_bits_and_nothing_is_trained_twice(
    trained: Trained, data: Dataset, tmp_path: Path
) -> None:
    with Watched() as progress:
        first = search.train(data, TRAIN, tmp_path, progress)
        assert progress.began == [0, 0]
        again = search.train(data, TRAIN, tmp_path, progress)
        assert progress.began[3] == first.epochs["plain"] * len(_batches(data))
    for other in (first, again):
        assert other.records == trained.records
        assert np.array_equal(other.vectors.users, trained.vectors.users)
        assert np.array_equal(other.vectors.items, trained.vectors.items)


def test_the_tail_is_raised_as_long_as_not_too_much_is_lost() -> None:
    said = iter([(0.5, 0.1), (0.49, 0.2), (0.48, 0.3)])

    class Run:
        """Says what validation says of three epochs."""

        def run(self, stage: Stage, progress: Progress, title: str, validate: Any) -> list[float]:
            return [validate(self) for _ in range(3)]

    taught: Any = Run()
    found = search.Search(taught, lambda _: Recalls(*next(said)), 0.03, Progress(disable=True), "")
    found.records["plain"] = [0.1, 0.5]
    stage = Stage("round-1", *[None] * 4)  # type: ignore[arg-type]
    assert found(stage, "tail") == 1
    assert found.records["round-1"] == [0.1, 0.2, 0.0]  # 0.48 is more than 3 % below 0.5
    said = iter([(0.5, 0.1), (0.49, 0.2), (0.51, 0.0)])
    assert found(stage, "all") == 2


def test_interests_resume_to_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    short = INTERESTS.model_copy(update={"max_epochs": 1})
    with Watched() as progress:
        first = search.train(data, short, tmp_path, progress)
        again = search.train(data, short, tmp_path, progress)
        assert progress.began[0] == 0 < progress.began[2]
    assert again.records == first.records
    assert np.array_equal(first.vectors.users, again.vectors.users)
    assert not np.allclose(first.vectors.users[:, 0], first.vectors.users[:, 1], atol=0.1)


def test_rounds_and_calibration_resume_to_the_same_bits(data: Dataset, tmp_path: Path) -> None:
    density = Density(kind="iterative", rounds=1, epochs=1, neighbours=5, draws=500, most_loss=1.0)
    weighted = TRAIN.model_copy(update={"density": density})
    with Watched() as progress:
        first = search.train(data, weighted, tmp_path, progress)
        stages = len(progress.began)
        again = search.train(data, weighted, tmp_path, progress)
    assert list(first.records) == ["plain", "round-1", "calibration"]
    assert not any(progress.began[:stages])
    assert all(progress.began[stages:])
    assert again.records == first.records
    assert np.array_equal(first.vectors.users, again.vectors.users)
    assert np.array_equal(first.vectors.items, again.vectors.items)


def test_goes_on_after_being_killed(prepared: Path, data: Dataset, tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from rich.progress import Progress; "
        "from offline.training import search; "
        "from offline.config import Train; from offline.data import dataset; "
        "search.train(dataset.load(Path(sys.argv[1])), Train.model_validate_json(sys.argv[2]), Path(sys.argv[3]), "
        "Progress(disable=True))"
    )
    command = [sys.executable, "-c", code, str(prepared), LONG.model_dump_json(), str(tmp_path / "killed")]
    process = subprocess.Popen(command)
    while not list((tmp_path / "killed").glob("search/plain/last/*[0-9]")):
        assert process.poll() is None, "ended before its first checkpoint"
        time.sleep(0.01)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    with Watched() as progress:
        resumed = search.train(data, LONG, tmp_path / "killed", progress)
    assert progress.began[0] > 0
    with Watched() as progress:
        unharmed = search.train(data, LONG, tmp_path / "unharmed", progress)
    assert progress.began[0] == 0
    assert resumed.records == unharmed.records
    assert np.array_equal(resumed.vectors.users, unharmed.vectors.users)
    assert np.array_equal(resumed.vectors.items, unharmed.vectors.items)


def _batches(data: Dataset) -> Batches:
    return Batches(
        data.timelines, len(data.items), TRAIN.visits_per_batch, TRAIN.history_length, TRAIN.targets_per_visit, 0
    )
