"""The loop: epochs of steps over one model, with its checkpoints.

An interrupted training goes on from its last checkpoint and gives the same result as if it had not been: every random
number is a function of the seed and the step.
"""

from __future__ import annotations

from collections.abc import Callable
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
from offline.training import processes
from offline.training.checkpoints import Checkpoints
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
        """Train through a stage, from its last checkpoint if there is one.

        With `validate` it ends early, once `patience` epochs in a row brought nothing better, and the model and the
        optimiser are left as they were after the best epoch, or before the first if all were worse.

        Returns:
            What `validate` said before the first epoch and after each.
        """
        folder, modules = self.folder / stage.name, (self.model, stage.optimiser)
        self.batches.weights = density_weighting.example_weights(stage.mass, self.batches.frequencies)
        with Checkpoints(folder / "last", modules) as last, Checkpoints(folder / "best", modules) as best:
            at, record = last.restore()
            per_epoch = len(self.batches)
            bar = progress.add_task(title, total=stage.epochs * per_epoch, completed=at)
            key = jax.random.key(self.config.seed)
            order = self.batches.order(self.epochs + at // per_epoch)
            if validate is not None and not record:
                record.append(validate(self))
                best.save(0, record)
            while at < stage.epochs * per_epoch and not _patience_is_over(record, stage.patience):
                epoch, number = divmod(at, per_epoch)
                if number == 0:
                    order = self.batches.order(self.epochs + epoch)
                batch = self.batches.batch(order, number)
                features = Features(take(self.features.items, batch.items), take(self.features.users, batch.users))
                chance = jax.random.fold_in(key, self.epochs * per_epoch + at)
                step(self.model, stage.optimiser, batch, features, chance)
                at += 1
                epoch_ends = at % per_epoch == 0
                if epoch_ends and validate is not None:
                    record.append(processes.agree(validate(self)))
                    progress.update(bar, description=f"{title}: epoch {epoch + 1}, recall {record[-1]:.4f}")
                    if best_epochs(record) == epoch + 1:
                        best.save(at, record)
                if epoch_ends or at % self.config.checkpoint_steps == 0:
                    last.save(at, record)
                progress.update(bar, completed=at)
            if validate is not None:
                best.restore()
            progress.update(bar, completed=at, total=at)
        self.epochs += at // per_epoch
        return record

    def embed(self, timelines: Timelines, users: NDArray[np.int32]) -> Vectors:
        """The vectors of all items, and of users (int32[n]) by what they did in `timelines`, as the model stands."""
        histories = tl.latest(timelines, users, self.config.history_length)
        features = self.features
        return vectors.embed(self.model, self.batches.ids, features.items, histories, take(features.users, users))

    def item_vectors(self) -> NDArray[np.float32]:
        """float32[J, D], of all items, as the model stands."""
        return vectors.embed_items(self.model, self.batches.ids, self.features.items)


def best_epochs(record: list[float]) -> int:
    """After how many epochs validation found a stage's model best; the fewest of equals."""
    return int(np.argmax(record))


def _patience_is_over(record: list[float], patience: int) -> bool:
    return bool(record) and len(record) - 1 - best_epochs(record) >= patience
