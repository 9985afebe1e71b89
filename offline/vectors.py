"""Vectors: what the towers make of every user and item, and the temperature they were trained at."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from flax import nnx
from jax.typing import ArrayLike
from numpy.typing import NDArray

from offline.towers.two_tower import TwoTower

_CHUNK = 1024


class Vectors(NamedTuple):
    """All of one model's vectors.

    Attributes:
        users: float32[U, H, D], of length 1; H interests, 1 with today's user tower.
        items: float32[J, D], of length 1.
        temperature: τ of p(item | user) ∝ exp(max_h ⟨user_h, item⟩ / τ).
    """

    users: NDArray[np.float32]
    items: NDArray[np.float32]
    temperature: float


def embed(
    model: TwoTower,
    ids: NDArray[np.int32],
    item_tokens: NDArray[np.int32],
    histories: NDArray[np.int32],
    user_tokens: NDArray[np.int32],
) -> Vectors:
    """Run both towers, in chunks of one shape so that each compiles once.

    Args:
        model: trained.
        ids: int32[J], the item tower's ids.
        item_tokens: int32[J, M].
        histories: int32[U, L], item numbers, the latest first, PAD past the end.
        user_tokens: int32[U, M].
    """
    items = np.concatenate([np.asarray(_items(model, *chunk)) for chunk in _chunks(ids, item_tokens)])[: len(ids)]
    users = [np.asarray(_users(model, items, *chunk)) for chunk in _chunks(histories, user_tokens)]
    temperature = float(jnp.exp(model.log_temperature[...]))
    return Vectors(np.concatenate(users)[: len(histories)], items, temperature)


def save(vectors: Vectors, path: Path) -> None:
    """Write to a safetensors file."""
    arrays = {**vectors._asdict(), "temperature": np.float64(vectors.temperature).reshape(1)}
    safetensors.numpy.save_file(arrays, path)


def load(path: Path) -> Vectors:
    """Read what `save` wrote."""
    arrays = safetensors.numpy.load_file(path)
    return Vectors(arrays["users"], arrays["items"], float(arrays["temperature"][0]))


@nnx.jit
def _items(model: TwoTower, ids: ArrayLike, tokens: ArrayLike) -> jax.Array:
    return model.item(jnp.asarray(ids), jnp.asarray(tokens))


@nnx.jit
def _users(model: TwoTower, items: ArrayLike, histories: ArrayLike, tokens: ArrayLike) -> jax.Array:
    return model.user(jnp.asarray(items), jnp.asarray(histories), jnp.asarray(tokens))


def _chunks(*arrays: NDArray[np.int32]) -> list[tuple[NDArray[np.int32], ...]]:
    """Equal chunks of rows; the last is filled with copies of the last row."""
    length = len(arrays[0])
    size = min(_CHUNK, length)
    rows = np.minimum(np.arange(-(-length // size) * size), length - 1)
    return [tuple(array[rows[start : start + size]] for array in arrays) for start in range(0, len(rows), size)]
