from pathlib import Path

import numpy as np
import pytest

from benchmarks import interests
from benchmarks.data import invented
from benchmarks.data.task import Task
from benchmarks.full_ranking import ranks
from benchmarks.interests import CALIBRATED, CONTINUES, IDW, MUR, OTHERS, SMALL, WEIGHTED, Set
from benchmarks.trials import Row, Trials
from offline.config import Density, Synthetic, Train
from offline.towers.parameters import user_parameters
from offline.training.loop import Training

SETTINGS = Synthetic(users=60, clusters=3, items_per_cluster=6, interests=2, steps=10)
CONFIG = SMALL.model_copy(
    update={
        "dimension": 8,
        "history_length": 6,
        "visits_per_batch": 64,
        "max_epochs": 2,
        "density": Density(draws=200, neighbours=5, epochs=1, rounds=1, most_loss=1.0),
    }
)


@pytest.fixture(scope="module")
def task() -> Task:
    return invented.load(SETTINGS)


def test_models_are_configurations_of_the_jobs_towers(task: Task) -> None:
    counts = {}
    for model in (*WEIGHTED, *OTHERS):
        found = interests.configured(CONFIG, model, task)
        assert Train.model_validate(found.model_dump()) == found
        counts[model] = user_parameters(found, task.features.users)
    assert counts["SUR"] < counts[MUR]
    assert counts["SUR-P"] == pytest.approx(counts[MUR], rel=0.01)
    assert {interests.configured(CONFIG, model, task).density.kind for model in ("SUR", "SUR-P", MUR)} == {"none"}
    assert interests.configured(CONFIG, CALIBRATED, task).density.calibrate
    assert not interests.configured(CONFIG, IDW, task).density.calibrate


def test_variants_go_on_from_the_same_towers(task: Task, tmp_path: Path) -> None:
    found = Set("tiny", lambda: task, CONFIG)
    measured = {model: interests.trial(found, task, model, 0, tmp_path) for model in (MUR, IDW)}
    for metrics in measured.values():
        assert {"HR@5", "HR@20/tail", "HR@50/head", "NDCG@10"} <= set(metrics)
        assert metrics["HR@50"] == 1  # of 18 items
    folders = {model: tmp_path / "models" / "tiny" / "0" / model for model in (MUR, IDW)}
    assert CONTINUES[IDW] == MUR
    steps = [sorted(path.name for path in (folder / "plain" / "last").glob("[0-9]*")) for folder in folders.values()]
    assert steps[0] == steps[1] != []
    assert (folders[IDW] / "round-1").is_dir()
    assert not (folders[MUR] / "round-1").exists()
    assert measured[MUR]["examples/s"] > 0
    assert "examples/s" not in measured[IDW]  # its plain training was not timed: it was there


def test_scores_are_those_of_the_nearest_interest(task: Task, tmp_path: Path) -> None:
    training = Training(task.learned, task.num_items, task.features, CONFIG, tmp_path)
    users = np.array([3, 5], dtype=np.int32)
    found = interests.scorer(training, task.test)(users)
    vectors = training.embed(task.test.history, users)
    assert found == pytest.approx(np.einsum("uhd,jd->uhj", vectors.users, vectors.items).max(axis=1), abs=1e-5)
    assert ranks(interests.scorer(training, task.test), task.test, repeats=True).max() < task.num_items


def test_reports_differences_beside_the_models(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = Trials("interests", quick=True, root=tmp_path)
    for seed in range(2):
        for model, gain in ((MUR, 0.0), (CALIBRATED, 0.1)):
            values = {f"HR@20{group}": 0.1 * (seed + 1) + gain for group in ("", "/head", "/tail")}
            trials.run("set", model, seed, lambda: values)  # noqa: B023
    interests.report(trials)
    assert (trials.folder / "interests.png").stat().st_size > 0
    written = (trials.folder / "interests.md").read_text()
    assert written in capsys.readouterr().out + "\n"
    difference = trials.difference("set", CALIBRATED, MUR, "HR@20/tail")
    assert isinstance(difference, Row)
    assert difference.mean == pytest.approx(0.1)
    assert f"{CALIBRATED} − {MUR}" in written


def test_says_how_to_obtain_what_is_not_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [found.name for found in interests.sets(tmp_path, tmp_path, quick=False)]
    assert "Amazon Beauty" not in names
    assert len(names) == 4
    assert "--data FOLDER" in capsys.readouterr().err
    assert [found.name for found in interests.sets(None, tmp_path, quick=True)] == ["synthetic, skew 1"]
