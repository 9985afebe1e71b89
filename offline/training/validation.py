"""Validation: how well a model, as it stands, foresees the validation period."""

from __future__ import annotations

import numpy as np

from offline.config import Train
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import Timelines
from offline.evaluation import ranking
from offline.training.features import Features
from offline.training.loop import Training


class Validation:
    """Recall over the full catalogue in the validation period, of users who were there before."""

    def __init__(self, dataset: Dataset, earlier: Timelines, features: Features, config: Train) -> None:
        self.earlier, self.features, self.cutoff = earlier, features, config.validation_cutoff
        timelines = dataset.timelines
        later = timelines.times >= microseconds(dataset.split.validation_start)
        self.users = np.intersect1d(timelines.users[later], earlier.users).astype(np.int32)
        taken = np.zeros((len(dataset.users), len(dataset.items)), dtype=bool)
        taken[timelines.users[later], timelines.items[later]] = True
        self.relevant = taken[self.users]

    def recall(self, training: Training) -> float:
        """Mean recall of a model as it stands."""
        vectors = training.embed(self.earlier, self.users)
        scores = np.einsum("uhd,jd->uhj", vectors.users, vectors.items).max(axis=1)
        ranked = ranking.top(scores, self.cutoff)
        return float(ranking.recall(ranked, self.relevant, self.cutoff).mean())
