"""The two towers as ONNX models.

user_tower.onnx  history float32[users, items, D], a user's latest items' vectors, the latest first, rows of zeros
                 past the end (and for who has no history), at most as many as the tower was trained with;
                 the user's features → interests float32[users, H, D] of length 1
item_tower.onnx  an item's features → vectors float32[items, D] of length 1, as for an item without an id: those
                 that training saw have their vectors already
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from bandit.models import FEATURES, ITEM_TOWER, TEXT, USER_TOWER
from offline.batches import UNKNOWN
from offline.config import Train
from offline.data.dataset import Dataset
from offline.export import features
from offline.export.networks import Networks
from offline.export.onnx import convert, feature_inputs, features_of, of_shape
from offline.text import encoder
from offline.towers.two_tower import TwoTower
from offline.training.features import Features, readings
from offline.training.search import Trained


def networks(dataset: Dataset, trained: Trained, config: Train) -> Networks:
    """The towers and all that they are fed with."""
    exported = models(trained.model, trained.features, config)
    found = features.arrays(dataset, trained.features, trained.vectors.items, config.history_length)
    exported[FEATURES] = features.pack(found)
    if trained.text is not None:
        exported[TEXT] = encoder.pack(trained.text)
    if config.tower != "hiformer":
        return Networks(exported)
    return Networks(exported, *readings(dataset, dataset.timelines, config))


def models(model: TwoTower, described: Features, config: Train) -> dict[str, bytes]:
    """Both towers by their names in a bundle.

    Args:
        model: trained.
        described: some rows, as the model reads them.
        config: theirs.
    """

    def user(arrays: dict[str, jax.Array]) -> tuple[jax.Array]:
        history = arrays["history"]
        return (model.user.of(history, features_of(arrays, described.users, history.shape[0])),)

    def item(arrays: dict[str, jax.Array]) -> tuple[jax.Array]:
        rows = next(iter(arrays.values())).shape[0]
        return (fresh(jnp.zeros(rows, jnp.int32), features_of(arrays, described.items, rows)),)

    # Of the table of ids, which may have millions of rows, only that of items without one is taken along.
    fresh: Any = nnx.clone(model.item)
    fresh.embedding.embedding = nnx.Param(fresh.embedding.embedding[UNKNOWN : UNKNOWN + 1])

    history = {"history": of_shape(("users", "items", config.dimension), jnp.float32)}
    found = {
        USER_TOWER: convert(
            user, history | feature_inputs(described.users, "users"), ["interests"], config.history_length
        )
    }
    inputs = feature_inputs(described.items, "items")
    if inputs:
        found[ITEM_TOWER] = convert(item, inputs, ["vectors"])
    return found
