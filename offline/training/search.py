"""The search and the final training: how long is found by validation, then all of the training period is learned from.

The search trains on what lies before the validation period, each stage until recall there stops rising; the final
training goes through the same stages, as many epochs in each, on everything before the test period.
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
from offline.training import stages
from offline.training.features import Features, describe, text_encoder
from offline.training.loop import Stage, Training, best_epoch
from offline.training.stages import Aim
from offline.training.validation import Validation
from offline.vectors import Vectors


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        model, features: the towers, and all items and users as they read them.
        vectors: of all items and users.
        text: what made vectors of the items' text, if anything did.
        records: the search's stages by name, in order; of each what validation said after every epoch.
        validation_users: how many it asked.
    """

    model: TwoTower
    features: Features
    vectors: Vectors
    text: Encoder | None
    records: dict[str, list[float]]
    validation_users: int

    @property
    def epochs(self) -> dict[str, int]:
        """How many epochs of each stage there are in the vectors."""
        return {name: best_epoch(record) for name, record in self.records.items()}


def train(dataset: Dataset, config: Train, folder: Path, progress: Progress) -> Trained:
    """Search, train, embed.

    Args:
        dataset: everything before the test period.
        config: the towers and their training.
        folder: where the checkpoints are kept.
        progress: gets a bar for each stage of the two trainings.
    """
    earlier = tl.before(dataset.timelines, microseconds(dataset.split.validation_start))
    text = text_encoder(dataset, earlier, config)
    validation = Validation(dataset, earlier, describe(dataset, earlier, config, text), config)
    search = Training(earlier, len(dataset.items), validation.features, config, folder / "search")
    records: dict[str, list[float]] = {}

    def seek(stage: Stage, aim: Aim) -> None:
        records[stage.name] = search.run(stage, progress, f"search, {stage.name}", validation.of(aim))

    stages.learn(search, config, seek)
    text = text_encoder(dataset, dataset.timelines, config)
    features = describe(dataset, dataset.timelines, config, text)
    final = Training(dataset.timelines, len(dataset.items), features, config, folder / "final")

    def repeat(stage: Stage, aim: Aim) -> None:  # noqa: ARG001
        if stage.name in records:  # weights may settle a round later here
            final.run(stage._replace(epochs=best_epoch(records[stage.name])), progress, f"final, {stage.name}")

    stages.learn(final, config, repeat)
    vectors = final.embed(dataset.timelines, np.arange(len(dataset.users), dtype=np.int32))
    return Trained(final.model, features, vectors, text, records, len(validation.users))
