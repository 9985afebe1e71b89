from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.batches import UNKNOWN, Batches
from offline.data.dataset import Dataset
from offline.towers.two_tower import TwoTower
from offline.training.features import Features, describe
from offline.training.step import ALL, USER_SIDE, adamw, step
from offline.vectors import take
from tests.offline.conftest import TRAIN


@pytest.mark.parametrize(
    ("which", "parts"),
    [(ALL, {"item", "user", "log_temperature"}), (USER_SIDE, {"user", "log_temperature"})],
    ids=["all", "user side"],
)
def test_moves_what_the_optimiser_is_for(which: Any, parts: set[str], data: Dataset) -> None:
    features = describe(data, data.timelines, TRAIN)
    batches = Batches(data.timelines, len(data.items), 16, TRAIN.history_length, 2, 0)
    batch = batches.batch(batches.order(0), 0)
    model = TwoTower(len(data.items), features.items, features.users, TRAIN, 0)
    optimiser = nnx.Optimizer(model, adamw(0.01, 0.0, 100), wrt=which)
    before = _parameters(model)
    step(
        model,
        optimiser,
        batch,
        Features(take(features.items, batch.items), take(features.users, batch.users)),
        jax.random.key(0),
    )
    moved = {path[0] for path, value in _parameters(model).items() if not np.array_equal(value, before[path])}
    assert moved == parts


@pytest.mark.parametrize("weight", [0.0, 50.0])
def test_strangeness_draws_items_without_an_id_to_where_they_are_with_it(weight: float, data: Dataset) -> None:
    config = TRAIN.model_copy(update={"strangeness": weight, "id_dropout": 0.0})
    features = describe(data, data.timelines, config)
    batches = Batches(data.timelines, len(data.items), 16, TRAIN.history_length, 2, 0)
    model = TwoTower(len(data.items), features.items, features.users, config, 0)
    optimiser = nnx.Optimizer(model, adamw(0.01, 0.0, 1000), wrt=ALL)
    order = batches.order(0)
    for number in range(30):
        batch = batches.batch(order, number % len(batches))
        rows = Features(take(features.items, batch.items), take(features.users, batch.users))
        step(model, optimiser, batch, rows, jax.random.key(number))
    items = vectors_of(model, batches.ids, features.items)
    fresh = vectors_of(model, np.full_like(batches.ids, UNKNOWN), features.items)
    # Only the taste is told by a word, so that no item can lie exactly where it does with its id.
    assert ((items * fresh).sum(axis=1)[:27].mean() > 0.9) == (weight > 0)


@nnx.jit
def vectors_of(model: TwoTower, ids: Any, features: Any) -> jax.Array:
    return model.item(jnp.asarray(ids), features)


def _parameters(model: TwoTower) -> dict[tuple[Any, ...], np.ndarray]:
    return {path: np.asarray(value[...]) for path, value in nnx.to_flat_state(nnx.state(model, nnx.Param))}
