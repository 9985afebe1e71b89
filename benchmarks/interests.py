"""One interest or many, plain or density-weighted: what is found of the head and of the tail of a catalogue?

Data: Amazon Beauty (leave-one-out, published SASRec HR@10 .0605), Online Retail (cut in time as the job cuts it) and
the synthetic set at three skews (20 clusters of 50 items; powers of interests and items 0, 0.5, 1; leave-one-out).
Every position of a training sequence is a target. Towers and training are the job's own, the towers smaller, trained
for longer where patience would end before learning does: plain training goes through all its epochs while the learning
rate falls to 0, and keeps the one that is best in validation (HR@20); the rounds are led by that of tail pairs. What is
trained is not trained again on the validation's items, but they are known of the users in the test. Variants of MUR
with weights go on from the same trained MUR, but for inverse frequency, which has its weights from the start. IDW's
rounds end before they cost more than 3 % of MUR's HR@20 in validation; one-shot density may cost what it will. `MUR, as
long, unweighted` has the rounds of IDW with all weights 1: what longer training alone brings.

The settings (rates, epochs, what the rounds may cost) were chosen by validation, most of it with seeds 100 and 101, but
with the test figures of these sets in view: the intervals are of seeds, not of that choice, and not of which users are
in the test.

HR@k is the share of (user, item) pairs of the test whose item is among the k best of the full catalogue, NDCG@10 the
mean over pairs of 1 / log2(1 + rank) within 10. On Beauty what the user had is not recommended, as where .0605 was
published; on the others people take things again. The head is the fifth of the items that was taken most in training,
the tail the rest. Differences are paired by seed.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.progress import Progress

from benchmarks import collaborative, interests_plot, results
from benchmarks.data import beauty, invented, retail
from benchmarks.data.task import Question, Task
from benchmarks.full_ranking import measures, ranks
from benchmarks.trials import Trials
from offline.config import Density, Hiformer, Synthetic, Train
from offline.data.timelines import is_head
from offline.towers.parameters import single_interest
from offline.training import stages
from offline.training.loop import Training
from offline.training.search import Search
from offline.training.validation import Recalls

MUR, IDW, CALIBRATED, LONGER = "MUR", "MUR+IDW", "MUR+IDW+calibration", "MUR, as long, unweighted"
COMPARED = (MUR, IDW, CALIBRATED)
"""The models of the comparison that must hold, with more seeds than the others."""

WEIGHTED: dict[str, dict[str, Any]] = {
    MUR: {"kind": "none"},
    "MUR+IF": {"kind": "inverse_frequency", "calibrate": False},
    "MUR+density": {"kind": "density", "calibrate": False, "most_loss": 1.0},
    IDW: {"kind": "iterative", "calibrate": False},
    CALIBRATED: {"kind": "iterative"},
    LONGER: {"kind": "iterative", "calibrate": False, "beta": 1.0, "delta": 0.0},
}
CONTINUES = {"MUR+density": MUR, IDW: MUR, CALIBRATED: IDW, LONGER: MUR}
"""Which model's stages a model begins with."""

SINGLE = ("SUR", "SUR-P")
BASELINES: dict[str, Callable[[Task, int], Mapping[str, float]]] = {
    "item-kNN": collaborative.item_knn,
    "iALS": collaborative.ials,
}
OTHERS = (*SINGLE, *(model for model in WEIGHTED if model not in COMPARED))

SMALL = Train(
    dimension=32,
    history_length=30,
    visits_per_batch=1024,
    targets_per_visit=1,
    id_dropout=0.0,
    learning_rate=6e-3,
    max_epochs=10,
    patience=10,
    checkpoint_steps=1_000_000,
    hiformer=Hiformer(heads=2, key_width=8, value_width=16, key_rank=8, value_rank=32),
    density=Density(),
)
RETAIL = SMALL.model_copy(
    update={
        "visits_per_batch": 256,
        "targets_per_visit": 16,
        "learning_rate": Train().learning_rate,
        "id_dropout": Train().id_dropout,
        "max_epochs": 8,
        "patience": 2,
    }
)
VALIDATED = 25_000
"""At most so many pairs are validated on; more would take as long as training."""


@dataclass(frozen=True)
class Set:
    """A data set: how to load it, and the towers' configuration on it."""

    name: str
    load: Callable[[], Task]
    config: Train


def sets(data: Path | None, work: Path, *, quick: bool) -> list[Set]:
    """The data sets there are; says what to do about those that are not."""

    def synthetic(power: float, users: int = 3000, config: Train = SMALL) -> Set:
        settings = Synthetic(
            users=users, clusters=20, items_per_cluster=50, interest_power=power, item_power=power, seed=0
        )
        return Set(f"synthetic, skew {power:g}", partial(invented.load, settings), config)

    if quick:
        return [synthetic(1.0, 1000, SMALL.model_copy(update={"max_epochs": 4}))]
    found = []
    if data is not None and (data / beauty.FILE).exists():
        found.append(Set("Amazon Beauty", partial(beauty.load, data), SMALL))
    else:
        typer.echo(beauty.OBTAIN, err=True)
    found.append(Set("Online Retail", partial(retail.load, work / "online-retail", RETAIL), RETAIL))
    return [*found, *(synthetic(power) for power in (1.0, 0.5, 0.0))]


def main(
    data: Annotated[Path | None, typer.Option(help="Folder that holds amazon-beauty/.")] = None,
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each model that is compared.")] = 5,
    side_seeds: Annotated[int, typer.Option(min=0, help="Trainings of each other model.")] = 3,
    only: Annotated[list[str] | None, typer.Option(help="Run these data sets alone, by name.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="One seed of a small synthetic set.")] = False,
) -> None:
    """Train every model on every data set and write what they find to results/interests.*"""
    trials = Trials("interests", quick=quick)
    for found in sets(data, trials.folder / "data", quick=quick):
        if only and found.name not in only:
            continue
        task = found.load()
        for seed in range(1 if quick else seeds):
            for model in COMPARED:
                trials.run(found.name, model, seed, partial(trial, found, task, model, seed, trials.folder))
        for seed in range(1 if quick else side_seeds):
            for model in OTHERS:
                trials.run(found.name, model, seed, partial(trial, found, task, model, seed, trials.folder))
            for model, baseline in BASELINES.items():
                trials.run(found.name, model, seed, partial(baseline, task, seed))
    report(trials)


def report(trials: Trials) -> None:
    """Write the rows, the differences among them, and the plot."""
    rows = trials.rows()
    for dataset in dict.fromkeys(row.dataset for row in rows):
        for other in (CALIBRATED, IDW, LONGER):
            for metric in ("HR@20", "HR@20/head", "HR@20/tail"):
                row = trials.difference(dataset, other, MUR, metric)
                rows += [row] if row is not None else []
    folder = results.write(trials, rows, "One interest or many, plain or density-weighted", (__doc__ or "").strip())
    interests_plot.plot(rows, (MUR, IDW, CALIBRATED)).savefig(folder / "interests.png", dpi=130)
    typer.echo((folder / "interests.md").read_text())


def trial(found: Set, task: Task, model: str, seed: int, root: Path) -> dict[str, float]:
    """Train one model, from where another left off if it continues one, and ask it the test's question."""
    folder = root / "models" / found.name / str(seed)
    _continue(folder / CONTINUES[model] if model in CONTINUES else None, folder / model)
    config = configured(found.config.model_copy(update={"seed": seed}), model, task)
    training = Training(task.learned, task.num_items, task.features, config, folder / model)
    pace = _Pace(len(training.batches) * training.batches.size)
    with Progress() as progress:
        search = Search(training, _recalls(task, pace), config.density.most_loss, progress, f"{model}, seed {seed}")
        stages.learn(training, config, search)
    asked = ranks(scorer(training, task.test), task.test, repeats=task.repeats)
    found_measures = measures(asked, is_head(task.learned, task.num_items)[task.test.items])
    return found_measures | ({"examples/s": pace.per_second} if pace.per_second else {})


def configured(config: Train, model: str, task: Task) -> Train:
    """The configuration of a model by its name."""
    weighting = WEIGHTED[MUR if model in SINGLE else model]
    config = config.model_copy(update={"density": config.density.model_copy(update=weighting)})
    if model == "SUR":
        return config.model_copy(update={"interests": 1})
    return single_interest(config, task.features.users) if model == "SUR-P" else config


def scorer(training: Training, question: Question) -> Callable[[np.ndarray], np.ndarray]:
    """Scores of the model as it stands for users by their history in a question."""
    everybody = np.unique(question.users)
    vectors = training.embed(question.history, everybody)

    def score(users: np.ndarray) -> np.ndarray:
        chosen = vectors.users[np.searchsorted(everybody, users)]
        found = chosen[:, 0] @ vectors.items.T
        for interest in range(1, chosen.shape[1]):
            np.maximum(found, chosen[:, interest] @ vectors.items.T, out=found)
        return np.asarray(found)

    return score


def _recalls(task: Task, pace: _Pace) -> Callable[[Training], Recalls]:
    """What the stages are led by: HR@20 of some of the validation's pairs, and of those of the tail."""
    question = task.validation
    some = np.sort(np.random.default_rng(0).permutation(len(question.users))[:VALIDATED])
    question = question._replace(users=question.users[some], items=question.items[some])
    in_tail = ~is_head(task.learned, task.num_items)[question.items]

    def recalls(training: Training) -> Recalls:
        with pace if training.epochs == 0 else nullcontext():
            hits = ranks(scorer(training, question), question, repeats=task.repeats) < 20
            return Recalls(float(hits.mean()), float(hits[in_tail].mean()))

    return recalls


def _continue(beginning: Path | None, folder: Path) -> None:
    """Copy the stages that are trained already."""
    if beginning is not None and not folder.exists():
        shutil.copytree(beginning, folder)


class _Pace:
    """Examples a second in the fastest epoch of plain training; to be entered between epochs."""

    def __init__(self, examples: int) -> None:
        self._examples, self._began = examples, float("nan")
        self._seconds: list[float] = []

    def __enter__(self) -> None:
        """An epoch ends, or none has begun."""
        if not np.isnan(self._began):
            self._seconds.append(time.perf_counter() - self._began)

    def __exit__(self, *_: object) -> None:
        """The next one begins."""
        self._began = time.perf_counter()

    @property
    def per_second(self) -> float:
        """Examples a second; 0 if no epoch was seen."""
        return self._examples / min(self._seconds) if self._seconds else 0.0


if __name__ == "__main__":
    typer.run(main)
