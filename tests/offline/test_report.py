import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console

from bandit.bundle import Bundle
from offline import report
from offline.config import Evaluate
from offline.data import dataset
from offline.data.dataset import Dataset
from offline.data.timelines import sort
from offline.evaluation import evaluation
from offline.training.search import Trained


@pytest.fixture
def metrics(prepared: Path, data: Dataset, trained: Trained, draft: Bundle) -> dict[str, Any]:
    test = dataset.test_period(prepared, data)
    rankers = evaluation.rankers(data, trained.vectors, draft)
    return evaluation.evaluate(data, test, draft, rankers, Evaluate(cutoffs=(2, 5)))


def test_writes_the_metrics_a_table_and_a_plot(metrics: dict[str, Any], tmp_path: Path) -> None:
    screen = io.StringIO()
    report.write(metrics, tmp_path, Console(file=screen, width=100))
    assert json.loads((tmp_path / report.METRICS).read_text()) == metrics
    assert (tmp_path / report.PLOT).read_bytes().startswith(b"\x89PNG")
    value = f"{metrics['tasks']['new']['towers']['recall']['5']:.3f}"
    for text in (screen.getvalue(), (tmp_path / report.TABLE).read_text()):
        assert value in text
        for name in ("towers", "sparse graph", "item-kNN", "popularity", "candidates on average"):
            assert name in text


def test_rows_of_the_table_have_as_many_cells_as_its_header(metrics: dict[str, Any]) -> None:
    rows = [line for line in report.markdown(metrics).splitlines() if line.startswith("|")]
    assert len(rows) == 2 * (2 + 5)
    assert len({line.count("|") for line in rows}) == 1
    assert "Recall@2" in rows[0]
    assert "NDCG@5" in rows[0]


def test_the_plot_draws_what_was_measured(metrics: dict[str, Any]) -> None:
    panels = report.plot(metrics).axes
    handles, labels = panels[0].get_legend_handles_labels()
    bars: list[Any] = list(handles)
    drawn = {label: bar.lines[0].get_ydata().tolist() for bar, label in zip(bars, labels, strict=True)}
    assert drawn == {name: list(found["recall"].values()) for name, found in metrics["tasks"]["all"].items()}


def test_an_empty_test_period_is_reported_as_such(data: Dataset, draft: Bundle, tmp_path: Path) -> None:
    nobody = sort(np.empty(0, np.int32), np.empty(0, np.int32), np.empty(0, np.int64), len(data.users))
    rankers = {"popularity": evaluation.rankers(data, np.empty(0), draft)["popularity"]}  # type: ignore[arg-type]
    metrics = evaluation.evaluate(data, nobody, draft, rankers, Evaluate(cutoffs=(5,)))
    report.write(metrics, tmp_path, Console(file=io.StringIO()))
    assert "Nobody known from training" in (tmp_path / report.TABLE).read_text()
    assert "–" in (tmp_path / report.TABLE).read_text()
