"""One step of training: a batch, its loss, the optimiser's move."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from flax import nnx

from offline.batches import UNKNOWN, Batch
from offline.data.timelines import PAD
from offline.loss import in_batch_softmax, strangeness
from offline.towers.two_tower import TwoTower
from offline.training.features import Features


@cache  # what is compiled for one training serves the next with the same settings
def adamw(learning_rate: float, weight_decay: float, steps: int | None) -> optax.GradientTransformation:
    """AdamW whose learning rate falls to 0 along a cosine, after `steps` steps; None keeps it as it is."""
    schedule = learning_rate if steps is None else optax.cosine_decay_schedule(learning_rate, steps)
    return optax.adamw(schedule, weight_decay=weight_decay)


def _beside_the_item_tower(path: tuple[Any, ...], value: Any) -> bool:  # noqa: ARG001
    return bool(path[0] != "item")


ALL = nnx.Param
"""What an optimiser moves: every parameter."""

PART = 4
"""One of so many items of a batch is also looked at without its id."""

USER_SIDE = nnx.All(nnx.Param, _beside_the_item_tower)
"""What an optimiser moves: the user tower and the temperature, so that the items' vectors stay what they are."""


@nnx.jit
def step(
    model: TwoTower,
    optimiser: nnx.Optimizer[TwoTower],
    batch: Batch,
    features: Features,
    key: jax.Array,
) -> None:
    """Move the parameters that the optimiser was made for by the gradient of one batch's loss; others stay.

    Args:
        model, optimiser: changed in place.
        batch: S items, B visits.
        features: of the batch's items and users.
        key: of what is random in training.
    """
    ids, log_q, weights = map(jnp.asarray, (batch.ids, batch.log_q, batch.weights))
    history, targets = jnp.asarray(batch.history), jnp.asarray(batch.targets)

    def loss(model: TwoTower) -> jax.Array:
        items = model.item(ids, features.items, key)
        users = model.user(items, history, features.users)
        some = slice(targets.size)  # the first items hold all targets, and only these compete
        scores = model.scores(users, items[some])
        hit = in_batch_softmax(scores, log_q[some], weights[some], targets, targets != PAD)
        return hit + model.penalty() + _strangeness(model, batch, features, items, key)

    optimiser.update(model, nnx.grad(loss, argnums=nnx.DiffState(0, optimiser.wrt))(model))


def _strangeness(model: TwoTower, batch: Batch, features: Features, items: jax.Array, key: jax.Array) -> jax.Array:
    """What it costs that items without an id lie elsewhere, from a part of the batch: all would take as long again."""
    if not model.strangeness:
        return jnp.zeros(())
    first = jax.random.randint(jax.random.fold_in(key, 1), (), 0, len(items))
    part = (first + jnp.arange(-(-len(items) // PART))) % len(items)
    rows = jax.tree.map(lambda array: jnp.asarray(array)[part], features.items)
    fresh = model.item(jnp.full(part.shape, UNKNOWN), rows)
    return model.strangeness * strangeness(fresh, items[part], jnp.asarray(batch.items)[part] != PAD)
