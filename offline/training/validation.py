"""Validation: how well a model, as it stands, foresees the validation period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.config import Train
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines, is_head, since, taken
from offline.evaluation import ranking
from offline.training.features import Features
from offline.training.loop import Training

_USERS = 8192


class Recalls(NamedTuple):
    """Recall of all items, and of the tail's."""

    all: float
    tail: float


class Validation:
    """Recall over the full catalogue in the validation period, of users who were there before, 8,192 of them at most.

    The tail is all items but the fifth that was taken most before it.
    """

    def __init__(self, dataset: Dataset, earlier: Timelines, features: Features, config: Train) -> None:
        self.earlier, self.features, self.cutoff = earlier, features, config.validation_cutoff
        self.later = since(dataset.timelines, microseconds(dataset.split.validation_start))
        users = np.intersect1d(self.later.users, earlier.users).astype(np.int32)
        if len(users) > _USERS:  # of whom the mean recall has a standard error below 0.6 %
            users = np.sort(np.random.default_rng(config.seed).choice(users, _USERS, replace=False))
        self.users = users
        self.tail = ~is_head(earlier, len(dataset.items))

    def recalls(self, training: Training) -> Recalls:
        """Of a model as it stands: mean recall, and that of the tail's items by the users who took some."""
        vectors = training.embed(self.earlier, self.users)
        everything, tail = [], []
        for chunk in ranking.chunks(np.arange(len(self.users), dtype=np.int32), len(vectors.items)):
            ranked = ranking.top(ranking.nearest(vectors.users[chunk], vectors.items), self.cutoff)
            relevant = taken(self.later, self.users[chunk], len(vectors.items))
            everything.append(self._recall(ranked, relevant))
            tail.append(self._recall(ranked, relevant & self.tail))
        return Recalls(_mean(np.concatenate(everything)), _mean(np.concatenate(tail)))

    def _recall(self, ranked: NDArray[np.int64], relevant: NDArray[np.bool_]) -> NDArray[np.float64]:
        some = relevant.any(axis=1)
        return ranking.recall(ranked[some], relevant[some], self.cutoff)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if len(values) else 0.0
