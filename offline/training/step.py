"""One step of training: a batch, its loss, the optimiser's move.

A step sees a small model: for every table of embeddings it has the rows that the batch reads, so what a step costs
depends on the batch alone, not on how many items there are.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from numpy.typing import NDArray

from offline.batches import Batch
from offline.data.timelines import PAD
from offline.loss import in_batch_softmax
from offline.towers.embedding import Table
from offline.towers.two_tower import TwoTower
from offline.training import processes, rows
from offline.training.features import Features, places
from offline.training.optimiser import Optimiser, name


def step(model: TwoTower, optimiser: Optimiser, batch: Batch, features: Features, key: jax.Array) -> None:
    """Move the parameters that the optimiser was made for by the gradient of one batch's loss; others stay.

    Args:
        model, optimiser: changed in place; arrays taken out of them before are gone.
        batch: S items, B visits.
        features: of the batch's items and users.
        key: of what is random in training.
    """
    sizes = {name(path): len(table[...]) for path, table in nnx.to_flat_state(nnx.state(model, Table))}
    touched = {"item.embedding": _ids(batch, sizes["item.embedding"])}
    touched["item.features"], items = places(features.items, sizes.get("item.features"))
    touched["user.features"], users = places(features.users, sizes.get("user.features"))
    batch, features = processes.shared((batch, Features(items, users)))
    touched, key = processes.everywhere((touched, key))
    _step(model, optimiser, batch, touched, features, key)


def _ids(batch: Batch, num_rows: int) -> NDArray[np.int32]:
    """int32[1 + S]: the rows of the items' ids, after that of no id. Padding gets rows that are not there."""
    past = num_rows + np.arange(len(batch.ids), dtype=np.int32)
    return np.concatenate([[rows.EMPTY], np.where(batch.items == PAD, past, batch.ids)]).astype(np.int32)


@nnx.jit(donate_argnums=(0, 1))
def _step(
    model: TwoTower,
    optimiser: Optimiser,
    batch: Batch,
    touched: dict[str, Any],
    features: Features,
    key: jax.Array,
) -> None:
    log_q, weights, history, targets = map(jnp.asarray, (batch.log_q, batch.weights, batch.history, batch.targets))
    ids = jnp.arange(1, len(touched["item.embedding"]))

    def loss(small: TwoTower) -> jax.Array:
        items = processes.gathered(small.item(ids, features.items, key))
        users = small.user(items, history, features.users)
        scores = small.scores(users, items[: len(log_q)])
        hit = in_batch_softmax(scores, log_q, weights, targets, targets != PAD)
        surprise = small.item.surprise(ids, features.items, jnp.asarray(batch.items) != PAD)
        return hit + small.penalty() + surprise

    gradients = nnx.grad(loss, argnums=nnx.DiffState(0, optimiser.wrt))(_small(model, touched))
    optimiser.move(model, processes.gathered(gradients), touched)


def _small(model: TwoTower, touched: dict[str, Any]) -> Any:
    """The model with the touched rows for its tables."""
    parts: Any = nnx.split(model, Table, ...)
    graph, tables, rest = parts
    few = [
        (path, table.replace(rows.read(table[...], touched[name(path)]))) for path, table in nnx.to_flat_state(tables)
    ]
    return nnx.merge(graph, nnx.from_flat_state(few), rest)
