"""The ranker's step of the offline job: train it, export its halves, and rank everybody's candidates for the report."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from bandit.bundle import Bundle
from offline.config import Rank
from offline.data import timelines as tl
from offline.data.dataset import Dataset
from offline.export import ranker as export
from offline.ranker import known as reading
from offline.ranker import reranking, training
from offline.ranker.ranked import Ranked


class Done(NamedTuple):
    """What the step leaves: both halves by their names in a bundle, everybody's candidates, and training's record."""

    models: dict[str, bytes]
    ranked: Ranked
    metrics: dict[str, Any]


def run(
    dataset: Dataset, draft: Bundle, features: bytes, buckets: int, config: Rank, folder: Path, progress: Progress
) -> Done:
    """Do the step.

    Args:
        dataset: everything before the test period.
        draft: whose graph proposes the candidates.
        features: the draft's `features.safetensors`.
        buckets: of the words hashed there.
        config: the ranker and its training.
        folder: where checkpoints are kept.
        progress: gets a bar for each of two trainings.
    """
    known = reading.read(features)
    candidates = reranking.best(draft, config.candidates)
    trained = training.train(dataset, known, candidates, buckets, config, folder / "checkpoints", progress)
    everyone = np.arange(len(dataset.users), dtype=np.int32)
    histories = tl.latest(dataset.timelines, everyone, config.history_length)
    logits = reranking.logits(trained.model, known, everyone, histories, candidates)
    metrics = {
        "validation_ndcg": trained.validation_ndcg,
        "validation_users": trained.validation_users,
        "epochs": trained.epochs,
    }
    return Done(export.models(trained.model, known), Ranked(candidates, logits), metrics)
