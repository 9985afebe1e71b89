"""Validation: how well a model, as it stands, foresees the validation period."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from offline.config import Train
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines, popularity
from offline.evaluation import ranking
from offline.training.features import Features
from offline.training.loop import Training
from offline.training.stages import Aim

HEAD_SHARE = 0.2


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

    def of(self, aim: Aim) -> Callable[[Training], float]:
        """Mean recall of a model as it stands: of all items, or of those of the tail by the users who took some."""
        return lambda training: self.recall(training, self.relevant if aim == "all" else self.relevant & self.tail)

    def recall(self, training: Training, relevant: NDArray[np.bool_]) -> float:
        """Mean recall of relevant items bool[n, J], of the users who have any; 0 if nobody has."""
        some = relevant.any(axis=1)
        if not some.any():
            return 0.0
        vectors = training.embed(self.earlier, self.users)
        scores = np.einsum("uhd,jd->uhj", vectors.users[some], vectors.items).max(axis=1)
        ranked = ranking.top(scores, self.cutoff)
        return float(ranking.recall(ranked, relevant[some], self.cutoff).mean())
