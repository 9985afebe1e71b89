"""Vectors: what the towers make of every user and item, and the temperature they were trained at."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.typing import ArrayLike
from numpy.typing import NDArray

from offline.towers.two_tower import TwoTower
from offline.training import processes

_CHUNK = 1024


class Vectors(NamedTuple):
    """All of one model's vectors.

    Attributes:
        users: float32[U, H, D], of length 1; H interests.
        items: float32[J, D], of length 1.
        temperature: τ of p(item | user) ∝ exp(max_h ⟨user_h, item⟩ / τ).
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    temperature: float


def embed(
    model: TwoTower,
    ids: NDArray[np.int32],
    item_features: Any,
    histories: NDArray[np.int32],
    user_features: Any,
) -> Vectors:
    """Run both towers, in chunks of one shape so that each compiles once.

    Args:
        model: trained.
        ids: int32[J], the item tower's ids.
        item_features: J rows, as the towers read them.
        histories: int32[U, L], item numbers, the latest first, PAD past the end.
        user_features: U rows.
    """
    items = embed_items(model, ids, item_features)
    placed = processes.everywhere(items)
    users = [np.asarray(_users(model, placed, *processes.shared(chunk))) for chunk in _chunks(histories, user_features)]
    temperature = float(jnp.exp(model.log_temperature[...]))
    return Vectors(np.concatenate(users)[: len(histories)], items, temperature)


def embed_items(model: TwoTower, ids: NDArray[np.int32], features: Any) -> NDArray[np.float32]:
    """float32[J, D]: run the item tower alone; the arguments are those of `embed`."""
    chunks = map(processes.shared, _chunks(ids, features))
    return np.concatenate([np.asarray(_items(model, *chunk)) for chunk in chunks])[: len(ids)]


def save(vectors: Vectors, path: Path) -> None:
    """Write to a safetensors file."""
    arrays = {**vectors._asdict(), "temperature": np.float64(vectors.temperature).reshape(1)}
    safetensors.numpy.save_file(arrays, path)


def load(path: Path) -> Vectors:
    """Read what `save` wrote."""
    arrays = safetensors.numpy.load_file(path)
    return Vectors(arrays["users"], arrays["items"], float(arrays["temperature"][0]))


def take(features: Any, rows: NDArray[np.integer]) -> Any:
    """Some rows of features, whatever arrays they are made of."""
    return jax.tree.map(lambda array: array[rows], features)


@nnx.jit
def _items(model: TwoTower, ids: ArrayLike, features: Any) -> jax.Array:
    return processes.gathered(model.item(jnp.asarray(ids), features))


@nnx.jit
def _users(model: TwoTower, items: ArrayLike, histories: ArrayLike, features: Any) -> jax.Array:
    return processes.gathered(model.user(jnp.asarray(items), jnp.asarray(histories), features))


def _chunks(first: NDArray[np.int32], features: Any) -> list[tuple[NDArray[np.int32], Any]]:
    """Equal chunks of rows; the last is filled with copies of the last row."""
    length = len(first)
    size = min(_CHUNK, length)
    rows = np.minimum(np.arange(-(-length // size) * size), length - 1)
    parts = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(first[part], take(features, part)) for part in parts]
