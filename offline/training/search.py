"""The search and the final training: how long is found by validation, then all of the training period is learned from.

The search trains on what lies before the validation period, each stage until recall there stops rising; the final
training goes through the same stages, as many epochs in each, on everything before the test period.
"""

from __future__ import annotations

from collections.abc import Callable
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
from offline.training.epochs import best_epochs
from offline.training.features import Features, describe, text_encoder
from offline.training.loop import Stage, Training
from offline.training.stages import Aim
from offline.training.validation import Recalls, Validation
from offline.vectors import Vectors


class Trained(NamedTuple):
    """What training gives.

    Attributes:
        model, features: the towers, and all items and users as they read them.
        vectors: of all items and users.
        text: what made vectors of the items' text, if anything did.
        records: the search's stages by name, in order; of each what validation said before it and after every epoch.
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
        return {name: best_epochs(record) for name, record in self.records.items()}


class Search:
    """Takes one training through its stages, each as long as validation says that it helps.

    Plain training and calibration raise recall; the rounds raise that of the tail, as long as no more than a share of
    plain training's recall is lost.

    Attributes:
        records: the stages by name, what validation said before each and after every epoch.
    """

    def __init__(
        self,
        training: Training,
        recalls: Callable[[Training], Recalls],
        most_loss: float,
        progress: Progress,
        title: str,
    ) -> None:
        self.training, self.recalls, self.most_loss = training, recalls, most_loss
        self.progress, self.title = progress, title
        self.records: dict[str, list[float]] = {}

    def __call__(self, stage: Stage, aim: Aim) -> int:
        """Run a stage; how many epochs of it were kept."""

        def worth(training: Training) -> float:
            found = self.recalls(training)
            return found.all if aim == "all" else self._of_tail(found)

        record = self.training.run(stage, self.progress, f"{self.title}, {stage.name}", worth)
        self.records[stage.name] = record
        return best_epochs(record)

    def _of_tail(self, found: Recalls) -> float:
        lost_too_much = found.all < (1 - self.most_loss) * max(self.records["plain"])
        return 0.0 if lost_too_much else found.tail


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
    training = Training(earlier, len(dataset.items), validation.features, config, folder / "search")
    search = Search(training, validation.recalls, config.density.most_loss, progress, "search")
    stages.learn(training, config, search)
    text = text_encoder(dataset, dataset.timelines, config)
    features = describe(dataset, dataset.timelines, config, text)
    final = Training(dataset.timelines, len(dataset.items), features, config, folder / "final")

    def repeat(stage: Stage, aim: Aim) -> int:  # noqa: ARG001
        epochs = best_epochs(search.records.get(stage.name, [0.0]))  # weights may settle a round later here
        if epochs:
            final.run(stage._replace(epochs=epochs), progress, f"final, {stage.name}")
        return epochs

    stages.learn(final, config, repeat)
    vectors = final.embed(dataset.timelines, np.arange(len(dataset.users), dtype=np.int32))
    return Trained(final.model, features, vectors, text, search.records, len(validation.users))
