from pathlib import Path

import pytest

from benchmarks import training
from benchmarks.training import BEFORE, CPU, ITEMS, NOW, RETAIL, STEPS
from benchmarks.trials import Row, Trials
from offline.config import Train


def test_a_step_is_measured_with_its_memory() -> None:
    tiny = Train(dimension=8, history_length=2, feature_buckets=16, interests=1)
    found = training.steps(2000, 2, tiny)
    assert found[CPU] > 0
    assert found["memory MB"] > 50


def test_trainings_take_turns_and_end_as_a_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ran = []

    def train(trials: Trials, model: str, seed: int, commit: str, epochs: int) -> dict[str, float]:
        ran.append((model, seed))
        return {"CPU seconds": 10.0, "recall@50": 0.3}

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(training, "_alone", lambda items: {CPU: 80.0, "memory MB": items / 1000})
    monkeypatch.setattr(training, "_train", train)
    training.main(seeds=2, quick=True)
    assert ran == [(NOW, 0), (BEFORE, 0)]
    said = capsys.readouterr().out
    assert f"## {RETAIL}" in said
    assert "| 10,000 items | 80" in said


def test_the_plot_shows_a_step_for_each_number_of_items() -> None:
    rows = [Row(STEPS, f"{items:,} items", CPU, None, 80.0, None, 1) for items in ITEMS]
    (axes,) = training.plot([*rows, Row(RETAIL, NOW, "CPU seconds", None, 99.0, 1.0, 3)]).axes
    assert [bar.get_height() for bar in axes.containers[0]] == [80.0] * 3
