"""Training the two towers: how long is found by validation, then the model learns from the whole training period.

The search trains on what lies before the validation period until recall there stops rising; the final training runs
as many epochs on everything before the test period. Both go on from their last checkpoint when they are interrupted,
and give the same result as if they had not been: every random number is a function of the seed and the step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import orbax.checkpoint as ocp
from flax import nnx
from numpy.typing import NDArray
from rich.progress import Progress

from offline.batches import Batch, Batches
from offline.config import Train
from offline.data import timelines as tl
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import PAD, Timelines
from offline.evaluation import ranking
from offline.features import fields, tokens
from offline.loss import in_batch_softmax
from offline.towers.two_tower import TwoTower
from offline.vectors import Vectors, embed, take


class Trained(NamedTuple):
    """What training gives: vectors of all items and users, and the search's record, one entry an epoch."""

    vectors: Vectors
    validation_recall: list[float]
    validation_users: int
    epochs: int


class Features(NamedTuple):
    """What is known of all J items and U users, as the configured towers read it: `tokens.bags` or `fields.fields`."""

    items: Any
    users: Any


def train(dataset: Dataset, config: Train, folder: Path, progress: Progress) -> Trained:
    """Search, train, embed.

    Args:
        dataset: everything before the test period.
        config: the towers and their training.
        folder: where the checkpoints are kept.
        progress: gets a bar for each of the two trainings.
    """
    earlier = tl.before(dataset.timelines, microseconds(dataset.split.validation_start))
    features = describe(dataset, dataset.timelines, config)
    validation = Validation(dataset, earlier, describe(dataset, earlier, config), config)
    search = Training(earlier, len(dataset.items), validation.features, config, folder / "search")
    recalls = search.run(config.max_epochs, progress, "search", validation.recall)
    epochs = int(np.argmax(recalls)) + 1
    final = Training(dataset.timelines, len(dataset.items), features, config, folder / "final")
    final.run(epochs, progress, "final")
    vectors = _embed(final, dataset.timelines, np.arange(len(dataset.users), dtype=np.int32))
    return Trained(vectors, recalls, len(validation.users), epochs)


def describe(dataset: Dataset, timelines: Timelines, config: Train) -> Features:
    """Features of all items and users; what is learned of features is learned from those in `timelines`."""
    items = np.bincount(timelines.items, minlength=len(dataset.items)) > 0
    users = np.bincount(timelines.users, minlength=len(dataset.users)) > 0
    buckets, width = config.feature_buckets, config.tokens_per_row
    read: Callable[..., Any] = fields.fields if config.tower == "hiformer" else tokens.bags
    return Features(
        read(dataset.items, "item_id", items, buckets, width),
        read(dataset.users, "user_id", users, buckets, width),
    )


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
        vectors = _embed(training, self.earlier, self.users)
        scores = np.einsum("uhd,jd->uhj", vectors.users, vectors.items).max(axis=1)
        ranked = ranking.top(scores, self.cutoff)
        return float(ranking.recall(ranked, self.relevant, self.cutoff).mean())


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
        optimiser = _adamw(config.learning_rate, config.weight_decay, config.max_epochs * len(self.batches))
        self.optimiser = nnx.Optimizer(self.model, optimiser, wrt=nnx.Param)

    def run(
        self, epochs: int, progress: Progress, title: str, validate: Callable[[Training], float] | None = None
    ) -> list[float]:
        """Train, from the last checkpoint if there is one, and return what `validate` said after each epoch.

        With `validate` it ends early, once `patience` epochs in a row brought nothing better.
        """
        with ocp.CheckpointManager(
            self.folder.resolve(),
            options=ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False),
        ) as checkpoints:
            step, record = self._restore(checkpoints)
            per_epoch = len(self.batches)
            bar = progress.add_task(title, total=epochs * per_epoch, completed=step)
            key = jax.random.key(self.config.seed)
            order = self.batches.order(step // per_epoch)
            while step < epochs * per_epoch and not self._patience_is_over(record):
                epoch, number = divmod(step, per_epoch)
                if number == 0:
                    order = self.batches.order(epoch)
                batch = self.batches.batch(order, number)
                features = Features(take(self.features.items, batch.items), take(self.features.users, batch.users))
                _step(self.model, self.optimiser, batch, features, jax.random.fold_in(key, step))
                step += 1
                epoch_ends = step % per_epoch == 0
                if epoch_ends and validate is not None:
                    record.append(validate(self))
                    progress.update(bar, description=f"{title}: epoch {epoch + 1}, recall {record[-1]:.4f}")
                if epoch_ends or step % self.config.checkpoint_steps == 0:
                    self._save(checkpoints, step, record)
                progress.update(bar, completed=step)
            progress.update(bar, completed=step, total=step)
        return record

    def _patience_is_over(self, record: list[float]) -> bool:
        return bool(record) and len(record) - 1 - int(np.argmax(record)) >= self.config.patience

    def _state(self) -> Any:
        return nnx.state((self.model, self.optimiser))

    def _save(self, checkpoints: ocp.CheckpointManager, step: int, record: list[float]) -> None:
        state = ocp.args.StandardSave(nnx.to_pure_dict(self._state()))
        checkpoints.save(step, args=ocp.args.Composite(state=state, record=ocp.args.JsonSave(record)))

    def _restore(self, checkpoints: ocp.CheckpointManager) -> tuple[int, list[float]]:
        step = checkpoints.latest_step()
        if step is None:
            return 0, []
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, nnx.to_pure_dict(self._state()))
        found = checkpoints.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore())
        )
        state = self._state()
        nnx.replace_by_pure_dict(state, found["state"])
        nnx.update((self.model, self.optimiser), state)
        return int(step), list(found["record"])


@cache  # what is compiled for one training serves the next with the same settings
def _adamw(learning_rate: float, weight_decay: float, steps: int) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=weight_decay)


@nnx.jit
def _step(
    model: TwoTower,
    optimiser: nnx.Optimizer[TwoTower],
    batch: Batch,
    features: Features,
    key: jax.Array,
) -> None:
    ids, log_q, history, targets = map(jnp.asarray, (batch.ids, batch.log_q, batch.history, batch.targets))

    def loss(model: TwoTower) -> jax.Array:
        items = model.item(ids, features.items, key)
        users = model.user(items, history, features.users)
        return in_batch_softmax(model.scores(users, items), log_q, targets, targets != PAD) + model.penalty()

    optimiser.update(model, nnx.grad(loss)(model))


def _embed(training: Training, timelines: Timelines, users: NDArray[np.int32]) -> Vectors:
    histories = tl.latest(timelines, users, training.config.history_length)
    features = training.features
    return embed(training.model, training.batches.ids, features.items, histories, take(features.users, users))
