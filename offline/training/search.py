"""The search and the final training: how long is found by validation, then all of the training period is learned from.

The search trains on what lies before the validation period until recall there stops rising; the final training runs
as many epochs on everything before the test period.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import Progress

from offline.config import Train
from offline.data import timelines as tl
from offline.data.dataset import Dataset, microseconds
from offline.text.encoder import Encoder
from offline.towers.two_tower import TwoTower
from offline.training.features import Features, describe, text_encoder
from offline.training.loop import Training
from offline.training.validation import Validation
from offline.vectors import Vectors


class Trained(NamedTuple):
    """What training gives: the model, what it reads, its vectors of all items and users, and the search's record.

    The record has one entry an epoch. `text` is what made vectors of the items' text, if anything did.
    """

    model: TwoTower
    features: Features
    vectors: Vectors
    text: Encoder | None
    validation_recall: list[float]
    validation_users: int
    epochs: int


def train(dataset: Dataset, config: Train, folder: Path, progress: Progress) -> Trained:
    """Search, train, embed.

    Args:
        dataset: everything before the test period.
        config: the towers and their training.
        folder: where the checkpoints are kept.
        progress: gets a bar for each of the two trainings.
    """
    earlier = tl.before(dataset.timelines, microseconds(dataset.split.validation_start))
    text = text_encoder(dataset, earlier, config)
    validation = Validation(dataset, earlier, describe(dataset, earlier, config, text), config)
    search = Training(earlier, len(dataset.items), validation.features, config, folder / "search")
    recalls = search.run(config.max_epochs, progress, "search", validation.recall)
    epochs = int(np.argmax(recalls)) + 1
    text = text_encoder(dataset, dataset.timelines, config)
    features = describe(dataset, dataset.timelines, config, text)
    final = Training(dataset.timelines, len(dataset.items), features, config, folder / "final")
    final.run(epochs, progress, "final")
    vectors = final.embed(dataset.timelines, np.arange(len(dataset.users), dtype=np.int32))
    return Trained(final.model, features, vectors, text, recalls, len(validation.users), epochs)
