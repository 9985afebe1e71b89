"""Training the ranker: how long is found by validation, then it learns from the whole training period.

Its tables are narrow (`width` and one floats an item) and moved whole in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx
from numpy.typing import NDArray
from rich.progress import Progress

from offline.batches import UNKNOWN
from offline.config import Rank
from offline.data import timelines as tl
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import PAD, Timelines
from offline.evaluation import ranking
from offline.features.fields import Fields
from offline.ranker import reranking
from offline.ranker.examples import Example, Examples
from offline.ranker.known import Known
from offline.ranker.ranker import Items, Ranker
from offline.training.checkpoints import Checkpoints


class Trained(NamedTuple):
    """What training gives: the model, and what validation said of the search, one entry an epoch."""

    model: Ranker
    validation_ndcg: list[float]
    validation_users: int
    epochs: int


def train(
    dataset: Dataset,
    known: Known,
    candidates: NDArray[np.int32],
    buckets: int,
    config: Rank,
    folder: Path,
    progress: Progress,
) -> Trained:
    """Search, train.

    Args:
        dataset: everything before the test period.
        known: all its items and users.
        candidates: int32[U, K], each user's best of the graph, PAD last.
        buckets: of the hashed words.
        config: the ranker and its training.
        folder: where the checkpoints are kept.
        progress: gets a bar for each of the two trainings.
    """
    earlier = tl.before(dataset.timelines, microseconds(dataset.split.validation_start))
    validation = Validation(dataset, earlier, known, candidates, config)
    search = Training(earlier, known, candidates, buckets, config, folder / "search")
    record = search.run(config.max_epochs, progress, "search", validation.ndcg)
    epochs = int(np.argmax(record)) + 1
    final = Training(dataset.timelines, known, candidates, buckets, config, folder / "final")
    final.run(epochs, progress, "final")
    return Trained(final.model, record, len(validation.users), epochs)


class Validation:
    """NDCG of the re-ranked candidates in the validation period, of users who were there before."""

    def __init__(
        self, dataset: Dataset, earlier: Timelines, known: Known, candidates: NDArray[np.int32], config: Rank
    ) -> None:
        timelines, later = dataset.timelines, dataset.timelines.times >= microseconds(dataset.split.validation_start)
        self.users = np.intersect1d(timelines.users[later], earlier.users).astype(np.int32)
        taken = np.zeros((len(dataset.users), len(dataset.items)), dtype=bool)
        taken[timelines.users[later], timelines.items[later]] = True
        self.relevant = taken[self.users]
        self.histories = tl.latest(earlier, self.users, config.history_length)
        self.known, self.candidates, self.cutoff = known, candidates[self.users], config.validation_cutoff

    def ndcg(self, model: Ranker) -> float:
        """The mean of a model as it stands."""
        said = reranking.logits(model, self.known, self.users, self.histories, self.candidates)
        order = np.argsort(-said, axis=1, kind="stable")
        ranked = np.take_along_axis(self.candidates, order, axis=1)
        return float(ranking.ndcg(ranked, self.relevant, self.cutoff).mean())


class Training:
    """One ranker under training, and its checkpoints."""

    def __init__(
        self,
        timelines: Timelines,
        known: Known,
        candidates: NDArray[np.int32],
        buckets: int,
        config: Rank,
        folder: Path,
    ) -> None:
        self.config, self.known, self.folder = config, known, folder
        self.examples = Examples(timelines, candidates, len(known.ids), config)
        dimension = known.vectors.shape[1]
        self.model = _new(len(known.ids), dimension, buckets, known.items, known.users, config)
        optimiser = _adamw(config.learning_rate, config.weight_decay, config.max_epochs * len(self.examples))
        self.optimiser = nnx.Optimizer(self.model, optimiser, wrt=nnx.Param)

    def run(
        self, epochs: int, progress: Progress, title: str, validate: Callable[[Ranker], float] | None = None
    ) -> list[float]:
        """Train, from the last checkpoint if there is one, and return what `validate` said after each epoch.

        With `validate` it ends early, once `patience` epochs in a row brought nothing better.
        """
        with Checkpoints(self.folder, (self.model, self.optimiser)) as checkpoints:
            at, record = checkpoints.restore()
            per_epoch = len(self.examples)
            bar = progress.add_task(title, total=epochs * per_epoch, completed=at)
            key = jax.random.key(self.config.seed)
            order = self.examples.batches.order(at // per_epoch)
            while at < epochs * per_epoch and not self._patience_is_over(record):
                epoch, number = divmod(at, per_epoch)
                if number == 0:
                    order = self.examples.batches.order(epoch)
                self._step(self.examples.example(order, epoch, number), jax.random.fold_in(key, at))
                at += 1
                epoch_ends = at % per_epoch == 0
                if epoch_ends and validate is not None:
                    record.append(validate(self.model))
                    progress.update(bar, description=f"{title}: epoch {epoch + 1}, NDCG {record[-1]:.4f}")
                if epoch_ends or at % self.config.checkpoint_steps == 0:
                    checkpoints.save(at, record)
                progress.update(bar, completed=at)
            progress.update(bar, completed=at, total=at)
        return record

    def _step(self, example: Example, key: jax.Array) -> None:
        numbers = np.concatenate([example.targets, example.negatives], axis=1)
        known = self.known
        _step(
            self.model,
            self.optimiser,
            known.some(example.history),
            known.user_fields(example.users),
            known.some(numbers),
            known.item_fields(numbers),
            example.targets != PAD,
            example.log_expected,
            self.config.id_dropout,
            key,
        )

    def _patience_is_over(self, record: list[float]) -> bool:
        return bool(record) and len(record) - 1 - int(np.argmax(record)) >= self.config.patience


def sampled_softmax(logits: jax.Array, there: jax.Array, log_expected: jax.Array) -> jax.Array:
    """Mean over targets t of −log( e^{s_t} / (e^{s_t} + Σ_n e^{s_n} / E_n) ), n the visit's negatives.

    Item n is among a visit's negatives E_n times on average, so the sum estimates that over the whole catalogue.

    Args:
        logits: float32[B, T + M], s of each visit's targets and then negatives.
        there: bool[B, T], which targets count; at least one.
        log_expected: float32[B, M], log E; infinite for negatives that do not count.
    """
    targets = there.shape[1]
    counts = jnp.isfinite(log_expected)
    # -1e9 and not -inf, whose gradient is undefined where a visit has no negative at all.
    corrected = jnp.where(counts, logits[:, targets:] - jnp.where(counts, log_expected, 0), -1e9)
    rest = jax.nn.logsumexp(corrected, axis=1, keepdims=True)
    positive = logits[:, :targets]
    return jnp.sum((jnp.logaddexp(positive, rest) - positive) * there) / jnp.sum(there)


@cache  # what is compiled for one training serves the next with the same settings
def _adamw(learning_rate: float, weight_decay: float, steps: int) -> optax.GradientTransformation:
    return optax.adamw(optax.cosine_decay_schedule(learning_rate, steps), weight_decay=weight_decay)


@nnx.jit(static_argnums=(0, 1, 2, 5))
def _new(num_items: int, dimension: int, buckets: int, items: Fields, users: Fields, config: Rank) -> Ranker:
    return Ranker(num_items, dimension, buckets, items, users, config, nnx.Rngs(config.seed))


@nnx.jit
def _step(
    model: Ranker,
    optimiser: nnx.Optimizer[Ranker],
    history: Items,
    users: Fields,
    candidates: Items,
    items: Fields,
    there: NDArray[np.bool_],
    log_expected: NDArray[np.float32],
    id_dropout: float,
    key: jax.Array,
) -> None:
    history, users, candidates, items = (
        jax.tree.map(jnp.asarray, part) for part in (history, users, candidates, items)
    )
    # Some candidates lose their id, so that items which have none are ranked by what else is known of them.
    dropped = jax.random.bernoulli(key, id_dropout, candidates.ids.shape)
    candidates = candidates._replace(ids=jnp.where(dropped, UNKNOWN, candidates.ids))

    def loss(model: Ranker) -> jax.Array:
        return sampled_softmax(model(history, users, candidates, items), jnp.asarray(there), jnp.asarray(log_expected))

    optimiser.update(model, nnx.grad(loss)(model))
