"""How fast does the job train on Online Retail, how well, and does a step's cost depend on the number of items?

Method. *Trainings*: `python -m offline train` on the built-in Online Retail, search and final training, as a process of
its own; the same command of an earlier commit (`--before`, from `git archive`) runs in turns with it, seed by seed, so
that both meet the same hour of the machine. Both train plainly, without density weighting and vectors of text, which
the earlier program lacks. Reported are the processes' CPU seconds (which hardly depend on who else uses the machine;
compiling included), visits trained on a CPU second by the job's own record, and the best recall@50 in validation.
*Steps*: steps of the default towers on batches of 64 visits and 1,024 items out of J, each J in a process
of its own: the least CPU time of a step, and the most memory that the process had.

The profile's top three costs, in CPU ms a step of 256 visits on one core (367 before: the item tower 187, scores and
loss 99, the user tower 65, the optimiser 13), and what was done about them:

1. The item tower: a batch embeds the items that it holds, not as many as there could be (2,800 instead of 3,145 on
   Online Retail), and projections are one product a token, not a batched product.
2. Scores and loss: only items that are somebody's target are scored, 1,600 of them.
3. The user tower: histories are gathered; its projections are one product a token.

Together, on Online Retail: 230 to 241 CPU ms a step, 113 of them in the item tower.

The optimiser touches the rows of its tables that the batch reads. One compiled step serves all stages of a training,
which compiled one each before.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

import jax
import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.trials import Row, Trials
from offline.batches import Batch
from offline.config import Train
from offline.data import dataset
from offline.data.dataset import microseconds
from offline.data.timelines import before, visits
from offline.features.fields import Fields
from offline.towers.two_tower import TwoTower
from offline.training.features import Features
from offline.training.optimiser import Optimiser
from offline.training.step import step

RETAIL, STEPS = "Online Retail", "Steps"
NOW, BEFORE = "now", "before"
BEFORE_COMMIT = "0619125"
ITEMS = (10_000, 100_000, 1_000_000)
CPU = "CPU ms a step"
VISITS, LISTED, SCORED, HISTORY, TARGETS = 64, 1024, 512, 200, 16


def main(
    seeds: Annotated[int, typer.Option(help="Trainings of each program.")] = 3,
    epochs: Annotated[int, typer.Option(help="Most epochs of a training.")] = 8,
    commit: Annotated[str, typer.Option("--before", help="The earlier commit.")] = BEFORE_COMMIT,
    quick: Annotated[bool, typer.Option("--quick", help="One seed of tiny towers; no million items.")] = False,
    items: Annotated[int | None, typer.Option(hidden=True, help="Only measure steps, and print JSON.")] = None,
) -> None:
    """Train, measure steps, and print the tables."""
    if items is not None:
        typer.echo(json.dumps(steps(items)))
        return
    trials = Trials("training", quick=quick)
    for number in ITEMS[:2] if quick else ITEMS:
        trials.run(STEPS, f"{number:,} items", 0, lambda: _alone(number))  # noqa: B023
    for seed in range(1 if quick else seeds):
        for model in (NOW, BEFORE):
            trials.run(RETAIL, model, seed, lambda: _train(trials, model, seed, commit, epochs))  # noqa: B023
    rows = trials.rows()
    folder = results.write(trials, rows, "Training", f"Method: benchmarks/training.py. Before: {commit}.")
    plot(rows).savefig(folder / "training.png", dpi=130)
    typer.echo((folder / "training.md").read_text())


def steps(num_items: int, number: int = 8, config: Train | None = None) -> dict[str, float]:
    """What a step costs where there are so many items: the least CPU ms of some steps, and MB of memory in the end."""
    config = config or Train()
    generator = np.random.default_rng(0)

    def fields(rows: int, numbers: int) -> Fields:
        words = generator.integers(1, config.feature_buckets, (rows, 8)).astype(np.int32)
        return Fields((words,), generator.normal(size=(rows, numbers)).astype(np.float32))

    features = Features(fields(LISTED, 1), fields(VISITS, 0))
    model = TwoTower(num_items, features.items, features.users, config, 0)
    optimiser = Optimiser(model, 1e-3, 1e-4, 1000)
    costs = []
    for at in range(number):
        items = np.sort(generator.choice(num_items, LISTED, replace=False)).astype(np.int32)
        batch = Batch(
            items=items,
            ids=items + 1,
            log_q=np.full(SCORED, -np.log(num_items), np.float32),
            weights=np.ones(SCORED, np.float32),
            history=generator.integers(0, LISTED, (VISITS, config.history_length)).astype(np.int32),
            targets=generator.integers(0, SCORED, (VISITS, TARGETS)).astype(np.int32),
            users=np.arange(VISITS, dtype=np.int32),
        )
        start = time.process_time()
        step(model, optimiser, batch, features, jax.random.key(at))
        np.asarray(model.log_temperature[...])
        costs.append(1e3 * (time.process_time() - start))
    return {CPU: min(costs[1:]), "memory MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def plot(rows: list[Row]) -> Figure:
    """A step's cost by the number of items."""
    figure = Figure(figsize=(6, 3.5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    found = [row for row in rows if (row.dataset, row.metric) == (STEPS, CPU)]
    bars = axes.bar([row.model for row in found], [row.mean for row in found], color="#0072B2")
    axes.bar_label(bars, fmt="{:.0f}", padding=3)
    axes.set(ylabel=CPU, ylim=(0, None))
    return figure


def _alone(num_items: int) -> Mapping[str, float]:
    command = [sys.executable, "-m", "benchmarks.training", "--items", str(num_items)]
    said = subprocess.run(command, check=True, stdout=subprocess.PIPE, env=os.environ | _one_thread())
    return {name: float(value) for name, value in json.loads(said.stdout).items()}


def _train(trials: Trials, model: str, seed: int, commit: str, epochs: int) -> Mapping[str, float]:
    folder = (trials.folder / "runs" / f"{model}-{seed}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    program = Path.cwd() if model == NOW else _program(commit, trials.folder.resolve())
    tiny = {"dimension": 16, "history_length": 20} if trials.quick else {}
    settings = {"max_epochs": 1 if trials.quick else epochs, **tiny}
    lines = ["[train]", *(f"{key} = {value}" for key, value in settings.items())]
    plainly = ["[train.density]", 'kind = "none"', "[train.text]", 'encoder = "none"'] if model == NOW else []
    (folder / "config.toml").write_text("\n".join([*lines, *plainly]) + "\n")
    options = ["--config", str(folder / "config.toml"), "--work", str(folder / "build")]
    _offline(program, ["prepare", *options])
    spent = _offline(program, ["train", *options, "--seed", str(seed)])
    result = json.loads((folder / "build" / "train" / "step.json").read_text())["result"]
    if model == NOW:  # its record begins before the first epoch
        record, final = result["validation_recall"]["plain"], result["epochs"]["plain"]
        searched = len(record) - 1
    else:
        record, final = result["validation_recall"], result["epochs"]
        searched = len(record)
    learned = _visits(folder / "build" / "prepare", searched, final)
    return {"CPU seconds": spent, "visits a CPU second": learned / spent, "recall@50": max(record)}


def _visits(prepared: Path, searched: int, final: int) -> int:
    """How many visits so many epochs of search and final training learned from, batches' remainders included."""
    data = dataset.load(prepared)
    earlier = before(data.timelines, microseconds(data.split.validation_start))
    return searched * len(visits(earlier).first) + final * len(visits(data.timelines).first)


def _offline(program: Path, arguments: list[str]) -> float:
    """Run the job of a checkout and return the CPU seconds that it took."""
    earlier = resource.getrusage(resource.RUSAGE_CHILDREN)
    environment = os.environ | _one_thread() | {"PYTHONPATH": str(program)}
    subprocess.run([sys.executable, "-m", "offline", *arguments], check=True, cwd=program, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - earlier.ru_utime - earlier.ru_stime


def _program(commit: str, root: Path) -> Path:
    """A commit's program, taken out of the repository once."""
    folder = root / "programs" / commit
    if not folder.exists():
        folder.mkdir(parents=True)
        archive = subprocess.run(["git", "archive", commit, "offline", "bandit"], check=True, stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "-C", str(folder)], input=archive.stdout, check=True)
    return folder


def _one_thread() -> dict[str, str]:
    """So that CPU seconds are those of the work and not of threads that wait for one another."""
    return {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false", "OMP_NUM_THREADS": "1"}


if __name__ == "__main__":
    typer.run(main)
