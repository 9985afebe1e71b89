"""Trials: what one model reached on one data set with one seed, kept on disk, so that a killed benchmark goes on.

Two processes may share the seeds of one benchmark: each runs some, and both see the trials of all.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from scipy import stats

from offline.publishing import git_commit

FOLDER = Path("build/benchmarks")
DIFFERENCE = "difference"


class Trial(NamedTuple):
    """One run.

    Attributes:
        dataset, model, seed: which.
        metrics: metric, or metric/group, → value; a group is a part of the items or users, such as `tail`.
        commit: of the program that ran.
        seconds: of the machine's time.
    """

    dataset: str
    model: str
    seed: int
    metrics: dict[str, float]
    commit: str
    seconds: float


class Row(NamedTuple):
    """One metric of one model: the mean over seeds and half the width of its 95 % interval (None for one seed)."""

    dataset: str
    model: str
    metric: str
    group: str | None
    mean: float
    ci95: float | None
    seeds: int


class Trials:
    """All trials of one benchmark.

    Args:
        name: the benchmark's.
        quick: those of --quick are kept apart.
    """

    def __init__(self, name: str, *, quick: bool = False, root: Path = FOLDER) -> None:
        self.name, self.quick = name, quick
        self.folder = root / (f"{name}-quick" if quick else name)

    def run(self, dataset: str, model: str, seed: int, trial: Callable[[], Mapping[str, float]]) -> dict[str, float]:
        """What `trial` measures, metric or metric/group → value; it is called unless that is known already."""
        path = self.folder / "trials" / dataset / f"{model} {seed}.json"
        if path.exists():
            return dict(json.loads(path.read_text())["metrics"])
        start = time.perf_counter()
        metrics = {name: float(value) for name, value in trial().items()}
        found = Trial(dataset, model, seed, metrics, git_commit() or "unknown", round(time.perf_counter() - start, 1))
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(found._asdict()))
        partial.replace(path)
        return metrics

    def all(self) -> list[Trial]:
        """Every trial there is, in the order in which models first ended."""
        paths = sorted((self.folder / "trials").glob("*/*.json"), key=lambda path: (path.stat().st_mtime, path))
        return [Trial(**json.loads(path.read_text())) for path in paths]

    def rows(self) -> list[Row]:
        """A row for every metric of every model on every data set."""
        values: dict[tuple[str, str, str], list[float]] = {}
        for trial in self.all():
            for metric, value in trial.metrics.items():
                values.setdefault((trial.dataset, trial.model, metric), []).append(value)
        return [_row(*key, found) for key, found in values.items()]

    def difference(self, dataset: str, model: str, than: str, metric: str) -> Row | None:
        """The mean difference of two models in a metric over the seeds that both ran; None if there is no such seed."""
        first, second = (self._by_seed(dataset, name, metric) for name in (model, than))
        shared = sorted(first.keys() & second.keys())
        if not shared:
            return None
        name, *group = metric.split("/")
        differences = [first[seed] - second[seed] for seed in shared]
        return _row(dataset, f"{model} − {than}", "/".join([f"{name} {DIFFERENCE}", *group]), differences)

    def _by_seed(self, dataset: str, model: str, metric: str) -> dict[int, float]:
        return {
            trial.seed: trial.metrics[metric]
            for trial in self.all()
            if (trial.dataset, trial.model) == (dataset, model) and metric in trial.metrics
        }


def half_width(values: list[float]) -> float | None:
    """Half the width of the mean's 95 % confidence interval by Student's t; None for a single value."""
    if len(values) < 2:
        return None
    return float(stats.t.ppf(0.975, len(values) - 1) * stats.sem(values))


def _row(dataset: str, model: str, metric: str, values: list[float]) -> Row:
    name, *group = metric.split("/")
    mean = sum(values) / len(values)
    return Row(dataset, model, name, group[0] if group else None, mean, half_width(values), len(values))
