"""Validation: how well a model, as it stands, foresees the validation period."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from offline.config import Train
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines, popularity
from offline.evaluation import ranking
from offline.training.features import Features
from offline.training.loop import Training

HEAD_SHARE = 0.2


class Recalls(NamedTuple):
    """Recall of all items, and of the tail's."""

    all: float
    tail: float


class Validation:
    """Recall over the full catalogue in the validation period, of users who were there before.

    The tail is all items but the fifth that was taken most before it.
    """

    def __init__(self, dataset: Dataset, earlier: Timelines, features: Features, config: Train) -> None:
        self.earlier, self.features, self.cutoff = earlier, features, config.validation_cutoff
        timelines = dataset.timelines
        later = timelines.times >= microseconds(dataset.split.validation_start)
        self.users = np.intersect1d(timelines.users[later], earlier.users).astype(np.int32)
        taken = np.zeros((len(dataset.users), len(dataset.items)), dtype=bool)
        taken[timelines.users[later], timelines.items[later]] = True
        self.relevant = taken[self.users]
        order = np.argsort(-popularity(earlier, len(dataset.items)), kind="stable")
        self.tail = np.ones(len(dataset.items), dtype=bool)
        self.tail[order[: round(HEAD_SHARE * len(order))]] = False

    def recalls(self, training: Training) -> Recalls:
        """Of a model as it stands: mean recall, and that of the tail's items by the users who took some."""
        vectors = training.embed(self.earlier, self.users)
        scores = np.einsum("uhd,jd->uhj", vectors.users, vectors.items).max(axis=1)
        ranked = ranking.top(scores, self.cutoff)
        return Recalls(self._mean(ranked, self.relevant), self._mean(ranked, self.relevant & self.tail))

    def _mean(self, ranked: NDArray[np.int64], relevant: NDArray[np.bool_]) -> float:
        some = relevant.any(axis=1)
        return float(ranking.recall(ranked[some], relevant[some], self.cutoff).mean()) if some.any() else 0.0
