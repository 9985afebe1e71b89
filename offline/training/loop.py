"""The loop: one model of two towers, trained stage after stage; every random number is a function of seed and step."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from numpy.typing import NDArray
from rich.progress import Progress

from offline import density_weighting, vectors
from offline.batches import Batches
from offline.config import Train
from offline.data import timelines as tl
from offline.data.timelines import Timelines
from offline.towers.two_tower import TwoTower
from offline.training import epochs, processes
from offline.training.epochs import Plan
from offline.training.features import Features
from offline.training.optimiser import ALL, Optimiser
from offline.training.step import step
from offline.vectors import Vectors, take


class Stage(NamedTuple):
    """Some epochs in a row with the same weights.

    Attributes:
        name: of its folder, unique in a training; shown.
        optimiser: of what it moves.
        mass: float64[J], each item's share of the loss, as `density_weighting` says.
        epochs: at most.
        patience: epochs in a row that may bring nothing better.
    """

    name: str
    optimiser: Optimiser
    mass: NDArray[np.float64]
    epochs: int
    patience: int


class Training:
    """One model under training, and its checkpoints."""

    def __init__(self, timelines: Timelines, num_items: int, features: Features, config: Train, folder: Path) -> None:
        self.config, self.features, self.folder = config, features, folder
        self.batches = Batches(
            timelines,
            num_items,
            config.visits_per_batch,
            config.history_length,
            config.targets_per_visit,
            config.seed,
        )
        processes.divide(self.batches.size)
        self.model = TwoTower(num_items, features.items, features.users, config, config.seed)
        processes.spread(self.model)
        self.epochs = 0
        """Done in the stages that have ended."""

    def optimiser(self, learning_rate: float, epochs: int | None = None, which: Any = ALL) -> Optimiser:
        """A new optimiser of some of the parameters; its learning rate falls to 0 in so many epochs, or stays."""
        steps = None if epochs is None else epochs * len(self.batches)
        return Optimiser(self.model, learning_rate, self.config.weight_decay, steps, which)

    def run(
        self, stage: Stage, progress: Progress, title: str, validate: Callable[[Training], float] | None = None
    ) -> list[float]:
        """Train through a stage as `epochs.run` does; what `validate` said before the first epoch and after each."""
        self.batches.weights = density_weighting.example_weights(stage.mass, self.batches.frequencies)
        per_epoch, key = len(self.batches), jax.random.key(self.config.seed)
        order = lru_cache(maxsize=1)(self.batches.order)

        def one(epoch: int, number: int) -> None:
            epoch += self.epochs
            batch = self.batches.batch(order(epoch), number)
            features = Features(take(self.features.items, batch.items), take(self.features.users, batch.users))
            step(self.model, stage.optimiser, batch, features, jax.random.fold_in(key, epoch * per_epoch + number))

        plan = Plan(stage.epochs, per_epoch, stage.patience, self.config.checkpoint_steps)
        modules, worth = (self.model, stage.optimiser), None if validate is None else partial(validate, self)
        gone, record = epochs.run(plan, self.folder / stage.name, modules, one, progress, title, worth)
        self.epochs += gone
        return record

    def embed(self, timelines: Timelines, users: NDArray[np.int32]) -> Vectors:
        """The vectors of all items, and of users (int32[n]) by what they did in `timelines`, as the model stands."""
        histories = tl.latest(timelines, users, self.config.history_length)
        features = self.features
        return vectors.embed(self.model, self.batches.ids, features.items, histories, take(features.users, users))

    def item_vectors(self) -> NDArray[np.float32]:
        """float32[J, D], of all items, as the model stands."""
        return vectors.embed_items(self.model, self.batches.ids, self.features.items)
