"""Training the ranker: how long is found by validation, then it learns from the whole training period.

Its tables are narrow (`width` and one floats an item) and moved whole in every step.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache, partial
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
from offline.training import epochs
from offline.training.epochs import Plan


class Trained(NamedTuple):
    """What training gives: the model, and what validation said of the search, before it and after every epoch."""

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
    enough = epochs.best_epochs(record)
    final = Training(dataset.timelines, known, candidates, buckets, config, folder / "final")
    final.run(enough, progress, "final")
    return Trained(final.model, record, len(validation.users), enough)


class Validation:
    """NDCG of the re-ranked candidates in the validation period, of users who were there before."""

    def __init__(
        self, dataset: Dataset, earlier: Timelines, known: Known, candidates: NDArray[np.int32], config: Rank
    ) -> None:
        self.later = tl.since(dataset.timelines, microseconds(dataset.split.validation_start))
        self.users = np.intersect1d(self.later.users, earlier.users).astype(np.int32)
        self.num_items = len(dataset.items)
        self.histories = tl.latest(earlier, self.users, config.history_length)
        self.known, self.candidates, self.cutoff = known, candidates[self.users], config.validation_cutoff

    def ndcg(self, model: Ranker) -> float:
        """The mean of a model as it stands."""
        said = reranking.logits(model, self.known, self.users, self.histories, self.candidates)
        order = np.argsort(-said, axis=1, kind="stable")
        ranked, found = np.take_along_axis(self.candidates, order, axis=1), []
        for some in ranking.chunks(np.arange(len(self.users), dtype=np.int32), self.num_items):
            relevant = tl.taken(self.later, self.users[some], self.num_items)
            relevant = np.pad(relevant, ((0, 0), (0, 1)))  # PAD finds the last column: nobody took it
            found.append(ranking.ndcg(ranked[some], relevant, self.cutoff))
        return float(np.concatenate(found).mean())


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
        self, most: int, progress: Progress, title: str, validate: Callable[[Ranker], float] | None = None
    ) -> list[float]:
        """Train as `epochs.run` does; what `validate` said before the first epoch and after each."""
        key, per_epoch = jax.random.key(self.config.seed), len(self.examples)
        order = lru_cache(maxsize=1)(self.examples.batches.order)

        def one(epoch: int, number: int) -> None:
            example = self.examples.example(order(epoch), epoch, number)
            self._step(example, jax.random.fold_in(key, epoch * per_epoch + number))

        plan = Plan(most, per_epoch, self.config.patience, self.config.checkpoint_steps, anew=True)
        modules, worth = (self.model, self.optimiser), None if validate is None else partial(validate, self.model)
        return epochs.run(plan, self.folder, modules, one, progress, title, worth)[1]

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
