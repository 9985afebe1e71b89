"""Baselines without a network: item-kNN, and a library's matrix factorisation (iALS, Hu, Koren and Volinsky 2008)."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import product

import numpy as np
from implicit.als import AlternatingLeastSquares
from numpy.typing import NDArray
from scipy import sparse
from threadpoolctl import threadpool_limits

from benchmarks.data.task import Question, Task
from benchmarks.full_ranking import Scorer, measures, ranks
from offline.data.timelines import Timelines, is_head
from offline.evaluation.item_knn import ItemKnn

FACTORS = 64
GRID = tuple(product((1.0, 10.0), (0.01, 0.1, 1.0)))
"""α, what an interaction weighs beside one that did not happen, and the regulariser; validation chooses."""


def item_knn(task: Task, seed: int) -> Mapping[str, float]:  # noqa: ARG001
    """Neighbourhoods of what is learned, applied to what is known of users in the test."""
    similarity = ItemKnn(task.learned, task.num_items).similarity
    taken = matrix(task.test.history, task.num_items)
    return _measured(task, lambda users: np.asarray((taken[users] @ similarity).toarray(), dtype=np.float32))


def ials(task: Task, seed: int) -> Mapping[str, float]:
    """Items' factors of what is learned; users' are fitted to what is known of them when they are asked about."""
    learned = matrix(task.learned, task.num_items)

    def quality(settings: tuple[float, float]) -> float:
        found = ranks(
            _factors(learned, *settings, 0, task.validation, task.num_items), task.validation, repeats=task.repeats
        )
        return float((found < 20).mean())

    with threadpool_limits(1, "blas"):
        best = max(GRID, key=quality)
        return _measured(task, _factors(learned, *best, seed, task.test, task.num_items))


def matrix(timelines: Timelines, num_items: int) -> sparse.csr_array:
    """float32[U, J] of 0 and 1: who took what."""
    shape = (len(timelines.starts) - 1, num_items)
    ones = np.ones(len(timelines.items), dtype=np.float32)
    taken = sparse.csr_array((ones, (timelines.users, timelines.items)), shape=shape)
    taken.data[:] = 1
    return taken


def _factors(
    learned: sparse.csr_array, alpha: float, regularization: float, seed: int, question: Question, num_items: int
) -> Scorer:
    model = AlternatingLeastSquares(
        FACTORS, alpha=alpha, regularization=regularization, iterations=15, random_state=seed, num_threads=1
    )
    model.fit(sparse.csr_matrix(learned), show_progress=False)
    history = sparse.csr_matrix(matrix(question.history, num_items))

    def score(users: NDArray[np.int32]) -> NDArray[np.float32]:
        factors = model.recalculate_user(users, history[users])
        return np.asarray(factors @ model.item_factors.T, dtype=np.float32)

    return score


def _measured(task: Task, scorer: Scorer) -> dict[str, float]:
    found = ranks(scorer, task.test, repeats=task.repeats)
    return measures(found, is_head(task.learned, task.num_items)[task.test.items])
