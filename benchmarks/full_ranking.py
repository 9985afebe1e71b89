"""Full ranking: where the item that a user took next stands among the whole catalogue."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.task import Question

CUTOFFS = (5, 10, 20, 50)
NDCG_CUTOFF = 10

Scorer = Callable[[NDArray[np.int32]], NDArray[np.float32]]
"""users int32[n] → scores float32[n, J]."""

_CHUNK = 256


def ranks(scorer: Scorer, question: Question, *, repeats: bool) -> NDArray[np.int64]:
    """int64[P]: for each pair, how many items of the catalogue score as high as its own or higher.

    Without `repeats` a user's history is left out. A tie counts against the model, so that one which scores all alike
    gets nothing.
    """
    found = np.empty(len(question.users), dtype=np.int64)
    order = np.argsort(question.users, kind="stable")
    users, starts = np.unique(question.users[order], return_index=True)
    ends = np.append(starts[1:], len(order))
    history = question.history
    for first in range(0, len(users), _CHUNK):
        some = users[first : first + _CHUNK]
        scores = np.array(scorer(some))
        if not repeats:
            for row, user in enumerate(some):
                scores[row, history.items[history.starts[user] : history.starts[user + 1]]] = -np.inf
        pairs = order[starts[first] : ends[first + len(some) - 1]]
        rows = np.searchsorted(some, question.users[pairs])
        targets = scores[rows, question.items[pairs]]
        found[pairs] = (~(scores[rows] < targets[:, None])).sum(axis=1) - 1  # what is not a number stands first
    return found


def measures(ranks: NDArray[np.int64], in_head: NDArray[np.bool_]) -> dict[str, float]:
    """HR and NDCG over all pairs (ranks int64[P]), over those of the head (bool[P]) and of the tail."""
    groups = {"": np.ones(len(ranks), dtype=bool), "/head": in_head, "/tail": ~in_head}
    found = {f"HR@{k}{name}": float((ranks[some] < k).mean()) for name, some in groups.items() for k in CUTOFFS}
    gains = np.where(ranks < NDCG_CUTOFF, 1 / np.log2(ranks + 2.0), 0)
    return found | {f"NDCG@{NDCG_CUTOFF}{name}": float(gains[some].mean()) for name, some in groups.items()}
