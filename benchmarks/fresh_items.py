"""Does a brand-new item, of which only its row is known, land near those who will buy it?

Method, on Online Retail: a random tenth of the items with at least 20 buyers in the training period and 5 known buyers
in the test period is taken out of all training interactions; their rows stay, as a shop would put a new item. So these
items have no id of their own in the towers. Clusters and graph are made as the offline job makes them. The towers are
smaller than the job's and trained for a fixed number of epochs (SMALL), for time's sake. Models:

- `price alone`, `words`, `tfidf`, `sentences`: what the item tower reads of a row. Each reads what the one before reads
  too, but for the last, which has its vector in the place of tfidf's;
- `as if known`: words, and the held-out items' interactions;
- `random`: the held-out items at random points, among clusters and items of `words`.

Metrics, means over the held-out items and their buyers in the test period:

- rank: where an item's order of all clusters, nearest first, puts its buyers' clusters, weighted as in their contexts;
  0 is the first of all clusters and 1 the last;
- own rank: the same by what sets the item apart, its affinity less the cluster's mean affinity to all items. Clusters
  of busy users have the most buyers of anything, so for `rank` any point that is near them is a good one;
- recall: share of buyers whose context holds a cluster that has an edge to the item; `edges` says how many there are.
  An item at a random point has as few as the graph's floor allows, here at random too. Under `nearest 10`, every item
  has edges to its ten nearest clusters;
- choice: for a buyer, the chance that a held-out item that was bought has a higher score than one that was not; items
  that all lie in one place have .5;
- recall@50 of known items, overall and in the tail: what reading text costs or brings them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated, Any

import jax
import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import Progress

from benchmarks import results
from benchmarks.trials import DIFFERENCE, Row, Trials
from offline import clustering, graph_builder
from offline.clustering import Clusters
from offline.config import Build, Prepare, Train
from offline.data import dataset, tables, timelines
from offline.data.dataset import Dataset
from offline.data.timelines import Timelines
from offline.evaluation import ranking
from offline.training import stages
from offline.training.features import describe, text_encoder
from offline.training.loop import Stage, Training
from offline.vectors import Vectors

DATASET = "Online Retail"
SHARE, MIN_BUYERS, MIN_LATER, NEAREST = 0.1, 20, 5, 10
BUILD = Build()
SMALL: dict[str, Any] = {
    "dimension": 32,
    "interests": 1,
    "history_length": 20,
    "max_epochs": 4,
    "hiformer": {"heads": 2, "key_rank": 8, "value_rank": 32},
    "density": {"kind": "none"},
}
RANDOM, PRICE, WORDS = "random", "price alone", "words"
TFIDF, SENTENCES, KNOWN = "tfidf", "sentences", "as if known"
ENCODERS = {TFIDF: {"encoder": "tfidf", "dimension": 128}, SENTENCES: {"encoder": "sentences", "dimension": 256}}
MODELS = (RANDOM, WORDS, TFIDF, PRICE, SENTENCES, KNOWN)
ORDER = (RANDOM, PRICE, WORDS, TFIDF, SENTENCES, KNOWN)
SIDE = {SENTENCES: 3, KNOWN: 3}
"""Comparisons that need fewer seeds."""


@dataclass(frozen=True, eq=False)
class Shop:
    """The training period and the test period."""

    data: Dataset
    test: Timelines


def main(
    seeds: Annotated[int, typer.Option(help="Trainings of each model, each with other items held out.")] = 5,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, one epoch, without the extra encoder.")] = False,
) -> None:
    """Hold items out, train without them, and see where they land."""
    trials = Trials("fresh_items", quick=quick)
    models = [RANDOM, WORDS, TFIDF] if quick else list(MODELS)
    if SENTENCES in models and not find_spec("wordllama"):
        typer.echo('Sentences are left out: they need the package wordllama (`pip install ".[sentences]"`).')
        models.remove(SENTENCES)
    due = [(seed, model) for seed in range(1 if quick else seeds) for model in models if seed < SIDE.get(model, seeds)]
    due.sort(key=lambda each: each[1] in SIDE)  # these go last
    jax.config.update("jax_compilation_cache_dir", str((trials.folder / "compiled").resolve()))  # type: ignore[no-untyped-call]
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        bar = progress.add_task("fresh items", total=len(due))
        for seed, model in due:
            progress.update(bar, description=f"{model}, seed {seed}")
            trials.run(DATASET, model, seed, lambda: trial(_shop(folder), model, seed, quick=quick))  # noqa: B023
            progress.advance(bar)
    rows = sorted(trials.rows(), key=lambda row: ORDER.index(row.model))
    pairs = [(WORDS, PRICE), (TFIDF, PRICE), (TFIDF, WORDS), (SENTENCES, WORDS)]
    metrics = list(dict.fromkeys(row.metric if row.group is None else f"{row.metric}/{row.group}" for row in rows))
    found = [trials.difference(DATASET, *pair, metric) for pair in pairs for metric in metrics]
    rows += [row for row in found if row is not None]
    folder_of_results = results.write(trials, rows, "Where fresh items land", "Method: benchmarks/fresh_items.py.")
    plot(rows).savefig(folder_of_results / "fresh_items.png", dpi=130)
    typer.echo((folder_of_results / "fresh_items.md").read_text())


def trial(shop: Shop, model: str, seed: int, *, quick: bool = False) -> Mapping[str, float]:
    """What one model reaches with one choice of held-out items."""
    items = held_out(shop, seed)
    vectors = trained(shop, WORDS if model == RANDOM else model, seed, quick=quick)
    if model == RANDOM:
        anywhere = np.random.default_rng(seed).normal(size=vectors.items[items].shape)
        moved = vectors.items.copy()
        moved[items] = anywhere / np.linalg.norm(anywhere, axis=1, keepdims=True)
        vectors = vectors._replace(items=moved)
    clusters = clustering.cluster(vectors.users, BUILD.model_copy(update={"seed": seed}))
    buyers = [np.unique(shop.test.users[shop.test.items == item]) for item in items]
    return {
        **place(vectors, clusters, items, buyers, np.random.default_rng(seed) if model == RANDOM else None),
        "choice": choice(vectors, items, buyers),
        **({} if model == RANDOM else known_recall(shop, vectors, items)),
    }


def held_out(shop: Shop, seed: int) -> NDArray[np.int64]:
    """The items to take out, ascending."""
    enough = (_buyers(shop.data.timelines, shop) >= MIN_BUYERS) & (_buyers(shop.test, shop) >= MIN_LATER)
    some = np.flatnonzero(enough)
    return np.sort(np.random.default_rng(seed).choice(some, round(SHARE * len(some)), replace=False))


def _buyers(taken: Timelines, shop: Shop) -> NDArray[np.int64]:
    """int64[J], how many users took each item."""
    pairs = np.unique(np.stack([taken.items, taken.users]), axis=1)
    return np.bincount(pairs[0], minlength=len(shop.data.items))


def without(taken: Timelines, items: NDArray[np.integer]) -> Timelines:
    """Timelines without what was taken of some items."""
    kept = ~np.isin(taken.items, items)
    return timelines.sort(taken.users[kept], taken.items[kept], taken.times[kept], len(taken.starts) - 1)


@lru_cache(maxsize=1)  # `random` is `words` but for the held-out items
def trained(shop: Shop, model: str, seed: int, *, quick: bool) -> Vectors:
    """The vectors of towers that have not seen the held-out items taken (but for `as if known`)."""
    data = shop.data
    if model != KNOWN:
        data = replace(data, timelines=without(data.timelines, held_out(shop, seed)))
    if model == PRICE:
        data = replace(data, items=data.items.drop_columns(["description"]))
    settings = {**SMALL, "seed": seed, "text": ENCODERS.get(model, {"encoder": "none"})}
    config = Train.model_validate({**settings, **({"max_epochs": 1} if quick else {})})
    features = describe(data, data.timelines, config, text_encoder(data, data.timelines, config))
    with tempfile.TemporaryDirectory() as folder, Progress(disable=True) as progress:
        training = Training(data.timelines, len(data.items), features, config, Path(folder))

        def run(stage: Stage, aim: stages.Aim) -> int:  # noqa: ARG001
            training.run(stage, progress, model)
            return stage.epochs

        stages.learn(training, config, run)
    return training.embed(data.timelines, np.arange(len(data.users), dtype=np.int32))


def place(
    vectors: Vectors,
    clusters: Clusters,
    items: NDArray[np.integer],
    buyers: list[NDArray[np.integer]],
    anywhere: np.random.Generator | None = None,
) -> dict[str, float]:
    """Where items lie among the clusters of their buyers (see the top); `anywhere` draws an item's edges at random."""
    number = len(clusters.centroids)
    affinity = vectors.items @ clusters.centroids.T
    order, own = _ranks(affinity[items]), _ranks((affinity - affinity.mean(axis=0))[items])
    graph = graph_builder.draw(clusters.centroids, vectors.items, BUILD)
    edge = np.zeros((number, len(vectors.items)), dtype=bool)
    edge[graph.clusters, graph.items] = True
    reached = edge[:, items].T
    if anywhere is not None:
        reached = anywhere.permuted(reached, axis=1)
    found: dict[str, list[float]] = {}
    for row, users in enumerate(buyers):
        chosen, weights = clusters.user_clusters[users], clusters.user_weights[users]
        shares = weights / weights.sum(axis=1, keepdims=True)
        values = {
            "rank": (order[row][chosen] * shares).sum(axis=1).mean() / (number - 1),
            "own rank": (own[row][chosen] * shares).sum(axis=1).mean() / (number - 1),
            "recall": (reached[row][chosen] & (weights > 0)).any(axis=1).mean(),
            "edges": reached[row].sum(),
            "recall/nearest 10": ((order[row][chosen] < NEAREST) & (weights > 0)).any(axis=1).mean(),
        }
        for name, value in values.items():
            found.setdefault(name, []).append(float(value))
    return {name: float(np.mean(values)) for name, values in found.items()}


def choice(vectors: Vectors, items: NDArray[np.integer], buyers: list[NDArray[np.integer]]) -> float:
    """The chance that a buyer's score of a held-out item that was bought exceeds that of one that was not."""
    users = np.unique(np.concatenate(buyers))
    bought = np.stack([np.isin(users, some) for some in buyers], axis=1)
    scores = np.einsum("uhd,jd->uhj", vectors.users[users], vectors.items[items]).max(axis=1)
    ranks = len(items) - 1 - _ranks(scores)
    ones = bought.sum(axis=1)
    pairs = ones * (len(items) - ones)
    wins = (ranks * bought).sum(axis=1) - ones * (ones - 1) / 2
    return float((wins[pairs > 0] / pairs[pairs > 0]).mean())


def known_recall(shop: Shop, vectors: Vectors, items: NDArray[np.integer]) -> dict[str, float]:
    """Recall@50 over the full catalogue without the held-out items, overall and of all but the most popular fifth."""
    number = len(vectors.items)
    users = np.unique(shop.test.users)
    taken = np.zeros((len(shop.data.users), number), dtype=bool)
    taken[shop.test.users, shop.test.items] = True
    taken[:, items] = False
    popular = np.argsort(-timelines.popularity(shop.data.timelines, number), kind="stable")
    tail = np.ones(number, dtype=bool)
    tail[popular[: number // 5]] = False
    scores = np.einsum("uhd,jd->uhj", vectors.users[users], vectors.items).max(axis=1)
    scores[:, items] = -np.inf
    ranked = ranking.top(scores, 50)
    found = {}
    for name, part in (("recall@50/known", taken[users]), ("recall@50/known tail", taken[users] & tail)):
        some = part.any(axis=1)
        found[name] = float(ranking.recall(ranked[some], part[some], 50).mean())
    return found


def _ranks(scores: NDArray[np.floating]) -> NDArray[np.int64]:
    """Each entry's place in its row, the greatest first."""
    return np.argsort(np.argsort(-scores, axis=1, kind="stable"), axis=1, kind="stable")


@cache
def _shop(folder: str) -> Shop:
    path = Path(folder)
    tables.prepare(tables.with_defaults(Prepare()), path)
    data = dataset.load(path)
    return Shop(data, dataset.test_period(path, data))


def plot(rows: list[Row]) -> Figure:
    """The metrics of where fresh items land, a panel each, with intervals."""
    panels = [("own rank", None), ("recall", None), ("recall", "nearest 10"), ("choice", None)]
    figure = Figure(figsize=(13, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    for axes, (metric, group) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        found = [row for row in rows if (row.metric, row.group) == (metric, group) and DIFFERENCE not in row.metric]
        found.sort(key=lambda row: ORDER.index(row.model))
        colours = ["#0072B2" if row.model in ENCODERS else "#999999" for row in found]
        means, errors = [row.mean for row in found], [row.ci95 or 0 for row in found]
        axes.barh(range(len(found)), means, xerr=errors, color=colours, capsize=3)
        axes.set_yticks(range(len(found)), [row.model for row in found])
        axes.invert_yaxis()
        title = metric if group is None else f"{metric}, {group}"
        axes.set_title(f"{title} ({'less' if metric == 'own rank' else 'more'} is better)", fontsize=10)
    return figure


if __name__ == "__main__":
    typer.run(main)
