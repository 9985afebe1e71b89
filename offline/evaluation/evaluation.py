"""The evaluation: each ranker against what known users took in the test period, over the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bandit.bundle import Bundle
from offline.config import Evaluate
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines, is_head, taken
from offline.evaluation import popularity as popular
from offline.evaluation import ranking, sparse_graph
from offline.evaluation.item_knn import ItemKnn
from offline.ranker.ranked import Ranked
from offline.vectors import Vectors

Ranker = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""users int32[n] → scores float32[n, J]."""

TASKS = ("all", "new")
"""What is relevant: all that the user took in the test period, or only what they had never taken before (then what
they had is not recommended either)."""

_MONTH = 28 * 86_400_000_000  # µs; of "recent popularity"


def rankers(dataset: Dataset, vectors: Vectors, bundle: Bundle, ranked: Ranked | None = None) -> dict[str, Ranker]:
    """The rankers by name; all of them know the training period alone. `ranked`: what the ranker makes of the graph."""
    timelines, num_items = dataset.timelines, len(dataset.items)
    last_month = microseconds(dataset.split.test_start) - _MONTH
    knn = ItemKnn(timelines, num_items)

    def graph(users: NDArray[np.int32]) -> NDArray[np.float32]:
        return sparse_graph.scores(bundle, users)

    return {
        "towers": lambda users: ranking.nearest(vectors.users[users], vectors.items),
        "sparse graph": graph,
        **({} if ranked is None else {"graph, ranked": lambda users: ranked.scores(users, graph(users))}),
        "item-kNN": knn.scores,
        "popularity": lambda users: popular.scores(timelines, users, num_items),
        "recent popularity": lambda users: popular.scores(timelines, users, num_items, last_month),
    }


def evaluate(
    dataset: Dataset, test: Timelines, bundle: Bundle, rankers: Mapping[str, Ranker], config: Evaluate
) -> dict[str, Any]:
    """Measure every ranker at every task, and the sparse graph's candidates.

    Args:
        dataset: the training period.
        test: known users' interactions with known items in the test period.
        bundle: whose graph proposes the candidates.
        rankers: by name.
        config: cut-offs, and how much of the catalogue is its head.

    Returns:
        Counts, `tasks` (task → ranker → measure → cut-off → mean over users) and `candidates`. A mean over nobody is
        None.
    """
    head = is_head(dataset.timelines, len(dataset.items), config.head_share)
    users = np.unique(test.users).astype(np.int32)
    return {
        "users": len(users),
        "interactions": len(test.items),
        "head_items": int(head.sum()),
        "tasks": {
            task: {name: _measure(dataset, test, ranker, head, task, config) for name, ranker in rankers.items()}
            for task in TASKS
        },
        "candidates": _candidates(dataset, test, bundle),
    }


def _measure(
    dataset: Dataset, test: Timelines, ranker: Ranker, head: NDArray[np.bool_], task: str, config: Evaluate
) -> dict[str, dict[str, float | None]]:
    deepest = max(config.cutoffs)
    values: dict[str, dict[int, list[NDArray[np.float64]]]] = {}
    seen: dict[int, set[int]] = {k: set() for k in config.cutoffs}
    for users, relevant, had in _tasks(dataset, test, task):
        scores = np.where(had, -np.inf, ranker(users))
        ranked = ranking.top(scores, deepest)
        parts = {"": relevant, "_head": relevant & head, "_tail": relevant & ~head}
        for k in config.cutoffs:
            seen[k].update(np.unique(ranked[:, :k]).tolist())
            values.setdefault("ndcg", {}).setdefault(k, []).append(ranking.ndcg(ranked, relevant, k))
            for suffix, part in parts.items():
                some = part.any(axis=1)
                recalls = ranking.recall(ranked[some], part[some], k)
                values.setdefault(f"recall{suffix}", {}).setdefault(k, []).append(recalls)
    measures = {
        name: {str(k): _mean(np.concatenate(chunks)) for k, chunks in by_cutoff.items()}
        for name, by_cutoff in values.items()
    }
    measures["recall_ci95"] = {
        str(k): _half_width(np.concatenate(chunks)) for k, chunks in values.get("recall", {}).items()
    }
    measures["coverage"] = {str(k): len(items) / len(dataset.items) for k, items in seen.items()}
    return measures


def _tasks(
    dataset: Dataset, test: Timelines, task: str
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.bool_]]]:
    """Chunks of users: who (int32[n]), what is relevant to them and what they may not get (bool[n, J] each)."""
    everyone = np.unique(test.users).astype(np.int32)
    for users in ranking.chunks(everyone, len(dataset.items)):
        relevant = taken(test, users, len(dataset.items))
        had = np.zeros_like(relevant)
        if task == "new":
            had = taken(dataset.timelines, users, len(dataset.items))
            relevant &= ~had
        some = relevant.any(axis=1)
        if some.any():
            yield users[some], relevant[some], had[some]


def _candidates(dataset: Dataset, test: Timelines, bundle: Bundle) -> dict[str, float | None]:
    recalls, sizes = [], []
    for users, relevant, _ in _tasks(dataset, test, "all"):
        proposed = sparse_graph.candidates(bundle, users)
        recalls.append((relevant & proposed).sum(axis=1) / relevant.sum(axis=1))
        sizes.append(proposed.sum(axis=1))
    if not recalls:
        return {"recall": None, "mean_size": None}
    return {"recall": _mean(np.concatenate(recalls)), "mean_size": _mean(np.concatenate(sizes))}


def _mean(values: NDArray[np.floating]) -> float | None:
    return float(values.mean()) if len(values) else None


def _half_width(values: NDArray[np.floating]) -> float | None:
    """Half the width of the mean's 95 % confidence interval."""
    return float(1.96 * values.std(ddof=1) / np.sqrt(len(values))) if len(values) > 1 else None
