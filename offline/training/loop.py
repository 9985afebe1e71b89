"""The loop: epochs of steps over one model, with its checkpoints.

An interrupted training goes on from its last checkpoint and gives the same result as if it had not been: every random
number is a function of the seed and the step.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from flax import nnx
from numpy.typing import NDArray
from rich.progress import Progress

from offline import vectors
from offline.batches import Batches
from offline.config import Train
from offline.data import timelines as tl
from offline.data.timelines import Timelines
from offline.towers.two_tower import TwoTower
from offline.training.checkpoints import Checkpoints
from offline.training.features import Features
from offline.training.step import ALL, adamw, step
from offline.vectors import Vectors, take


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
        self.model = TwoTower(num_items, features.items, features.users, config, config.seed)
        optimiser = adamw(config.learning_rate, config.weight_decay, config.max_epochs * len(self.batches))
        self.optimiser = nnx.Optimizer(self.model, optimiser, wrt=ALL)

    def run(
        self, epochs: int, progress: Progress, title: str, validate: Callable[[Training], float] | None = None
    ) -> list[float]:
        """Train, from the last checkpoint if there is one, and return what `validate` said after each epoch.

        With `validate` it ends early, once `patience` epochs in a row brought nothing better.
        """
        with Checkpoints(self.folder, (self.model, self.optimiser)) as checkpoints:
            at, record = checkpoints.restore()
            per_epoch = len(self.batches)
            bar = progress.add_task(title, total=epochs * per_epoch, completed=at)
            key = jax.random.key(self.config.seed)
            order = self.batches.order(at // per_epoch)
            while at < epochs * per_epoch and not self._patience_is_over(record):
                epoch, number = divmod(at, per_epoch)
                if number == 0:
                    order = self.batches.order(epoch)
                batch = self.batches.batch(order, number)
                features = Features(take(self.features.items, batch.items), take(self.features.users, batch.users))
                step(self.model, self.optimiser, batch, features, jax.random.fold_in(key, at))
                at += 1
                epoch_ends = at % per_epoch == 0
                if epoch_ends and validate is not None:
                    record.append(validate(self))
                    progress.update(bar, description=f"{title}: epoch {epoch + 1}, recall {record[-1]:.4f}")
                if epoch_ends or at % self.config.checkpoint_steps == 0:
                    checkpoints.save(at, record)
                progress.update(bar, completed=at)
            progress.update(bar, completed=at, total=at)
        return record

    def embed(self, timelines: Timelines, users: NDArray[np.int32]) -> Vectors:
        """The vectors of all items, and of users (int32[n]) by what they did in `timelines`, as the model stands."""
        histories = tl.latest(timelines, users, self.config.history_length)
        features = self.features
        return vectors.embed(self.model, self.batches.ids, features.items, histories, take(features.users, users))

    def _patience_is_over(self, record: list[float]) -> bool:
        return bool(record) and len(record) - 1 - int(np.argmax(record)) >= self.config.patience
