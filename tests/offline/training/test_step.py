from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from flax import nnx

from offline.batches import Batch, Batches
from offline.data.dataset import Dataset
from offline.data.timelines import PAD
from offline.loss import in_batch_softmax
from offline.towers.embedding import Table
from offline.towers.two_tower import TwoTower
from offline.training.features import Features, describe
from offline.training.optimiser import ALL, USER_SIDE, Optimiser
from offline.training.step import step
from offline.vectors import take
from tests.offline.conftest import TRAIN

RATE, STEPS, ID_DROPOUT = 0.01, 100, TRAIN.id_dropout


def example(data: Dataset) -> tuple[TwoTower, Batch, Features]:
    features = describe(data, data.timelines, TRAIN)
    batches = Batches(data.timelines, len(data.items), 4, TRAIN.history_length, 2, 0)
    batch = batches.batch(batches.order(0), 0)
    model = TwoTower(len(data.items), features.items, features.users, TRAIN, 0)
    return model, batch, Features(take(features.items, batch.items), take(features.users, batch.users))


@pytest.mark.parametrize(
    ("which", "parts"),
    [(ALL, {"item", "user", "log_temperature"}), (USER_SIDE, {"user", "log_temperature"})],
    ids=["all", "user side"],
)
def test_moves_what_the_optimiser_is_for(which: Any, parts: set[str], data: Dataset) -> None:
    model, batch, features = example(data)
    before = parameters(model)
    step(model, Optimiser(model, RATE, 0.0, STEPS, which), batch, features, jax.random.key(0))
    moved = {path[0] for path, value in parameters(model).items() if not np.array_equal(value, before[path])}
    assert moved == parts


def test_the_first_step_is_that_of_dense_adamw_and_other_rows_keep_their_bits(data: Dataset) -> None:
    model, batch, features = example(data)
    graph, state = nnx.split(model)
    reference, key = nnx.merge(graph, jax.tree.map(jnp.copy, state)), jax.random.key(1)
    before = parameters(model)
    step(model, Optimiser(model, RATE, 0.0, STEPS), batch, features, key)
    optimiser = nnx.Optimizer(reference, optax.adamw(RATE, weight_decay=0.0), wrt=nnx.Param)
    dense_step(reference, optimiser, batch, features, key)
    expected = parameters(reference)
    tables = {path for path, _ in nnx.to_flat_state(nnx.state(model, Table))}
    assert len(tables) == 3
    for path, value in parameters(model).items():
        # Adam divides by the gradient's size: where that is next to 0, rounding decides.
        assert np.quantile(np.abs(value - expected[path]), 0.99) < 1e-4, path
        if path in tables:
            assert np.array_equal(value[rest := untouched(path, batch, features, len(value))], before[path][rest])
            assert len(rest)


def untouched(path: tuple[Any, ...], batch: Batch, features: Features, size: int) -> np.ndarray:
    named = [0]
    if path[:2] == ("item", "embedding"):
        named += batch.ids[batch.items != PAD].tolist()
    else:
        named += (features.items if path[0] == "item" else features.users).ravel().tolist()
    return np.setdiff1d(np.arange(size), named)


@nnx.jit
def dense_step(model: TwoTower, optimiser: Any, batch: Batch, features: Features, key: jax.Array) -> None:
    """The step as it would be with the whole tables in it, and with all items scored."""
    scored = len(batch.log_q)

    def loss(model: TwoTower) -> jax.Array:
        # Ids and dropout as in the step, which has no other names for items than their places.
        dropped = jnp.where(jax.random.bernoulli(key, ID_DROPOUT, batch.ids.shape), 0, jnp.asarray(batch.ids))
        items = model.item(dropped, jax.tree.map(jnp.asarray, features.items))
        users = model.user(items, jnp.asarray(batch.history), jax.tree.map(jnp.asarray, features.users))
        scores = model.scores(users, items)[:, :scored]
        targets = jnp.asarray(batch.targets)
        return in_batch_softmax(scores, jnp.asarray(batch.log_q), jnp.asarray(batch.weights), targets, targets != PAD)

    optimiser.update(model, nnx.grad(loss)(model))


def parameters(model: TwoTower) -> dict[tuple[Any, ...], np.ndarray]:
    """Copies: a step takes the arrays that it was given."""
    return {path: np.array(value[...]) for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}
