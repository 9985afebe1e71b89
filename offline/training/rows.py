"""Sparse updates: of a table of embeddings only the rows that a batch reads are gathered, differentiated and moved.

A dense optimiser reads and writes a million rows for a batch that reads some thousands. Here every row has an optimiser
of its own (any of Optax's, vectorised over rows), which counts only the steps that touched the row. Adam's correction
of its moments' bias goes by that count: with the count of all steps a row that is met late would be moved by
(1 − β₁) / √(1 − β₂) ≈ 3 learning rates at first. Where every step touches every row, all this is what the optimiser
does to the whole table.
"""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import optax  # type: ignore[import-untyped]
from numpy.typing import NDArray

EMPTY = 0
"""The row of what is unknown or empty; every batch may read it."""

_LEAST = 64


def distinct(values: list[NDArray[np.int32]], num_rows: int) -> tuple[NDArray[np.int32], list[NDArray[np.int32]]]:
    """The rows that some arrays name, each once, and the arrays as places among them.

    Args:
        values: int32[...] each, in [0, num_rows).
        num_rows: n, of the table.

    Returns:
        int32[R], ascending, EMPTY first, then those named; past the end n, n + 1, …, which no table has. R is a power
        of two (or n), so that few shapes are compiled. And the places: `rows[places] == values`.
    """
    named = np.zeros(num_rows, dtype=bool)
    named[EMPTY] = True
    for array in values:
        named[array] = True
    found = np.flatnonzero(named).astype(np.int32)
    size = min(max(_LEAST, 1 << int(len(found) - 1).bit_length()), num_rows)
    place = np.zeros(num_rows, dtype=np.int32)
    place[found] = np.arange(len(found), dtype=np.int32)
    past = np.arange(num_rows, num_rows + size - len(found), dtype=np.int32)
    return np.concatenate([found, past]), [place[array] for array in values]


def remember(optimiser: optax.GradientTransformation, table: jax.Array) -> Any:
    """The optimiser's state for each row of a table float32[n, D]: its arrays with an axis of n in front."""
    return jax.vmap(optimiser.init)(table)


def read(table: jax.Array, rows: jax.Array) -> jax.Array:
    """table[n, ...], rows int32[R] → [R, ...]; 0 for rows that the table does not have."""
    return table.at[rows].get(mode="fill", fill_value=0)


def move(
    optimiser: optax.GradientTransformation,
    rate: jax.Array,
    table: jax.Array,
    memory: Any,
    rows: jax.Array,
    gradients: jax.Array,
) -> tuple[jax.Array, Any]:
    """One step of each row's optimiser; in place where the caller gives the arrays away (`donate_argnums`).

    Args:
        optimiser: for one row; its updates are multiplied by `rate`.
        rate: of learning, a scalar.
        table: float32[n, D].
        memory: of `remember`.
        rows: int32[R], no row twice; numbers ≥ n are passed over.
        gradients: float32[R, D].

    Returns:
        The table and the memory; the bits of all other rows are what they were.
    """
    before, remembered = read(table, rows), jax.tree.map(lambda array: read(array, rows), memory)
    updates, now = jax.vmap(optimiser.update)(gradients, remembered, before)

    def written(array: jax.Array, new: jax.Array) -> jax.Array:
        return array.at[rows].set(new, mode="drop", unique_indices=True)

    return written(table, before + rate * updates), jax.tree.map(written, memory, now)


def adamw(weight_decay: float) -> optax.GradientTransformation:
    """AdamW for one row, with a learning rate of 1."""
    return optax.chain(optax.scale_by_adam(), optax.add_decayed_weights(weight_decay), optax.scale(-1.0))
