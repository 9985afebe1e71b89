from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from offline.training import rows

DECAY, RATE, STEPS = 0.1, 0.03, 5
OPTIMISER = rows.adamw(DECAY)
GENERATOR = np.random.default_rng(0)
TABLE = jnp.asarray(GENERATOR.normal(size=(7, 3)), jnp.float32)


@jax.jit
def move(table: jax.Array, memory: Any, named: jax.Array, gradients: jax.Array) -> tuple[jax.Array, Any]:
    return rows.move(OPTIMISER, jnp.float32(RATE), table, memory, named, gradients)


def dense(table: jax.Array, gradients: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Optax's AdamW on a whole table."""
    optimiser = optax.adamw(RATE, weight_decay=DECAY)
    state = optimiser.init(table)
    for gradient in gradients:
        updates, state = optimiser.update(jnp.asarray(gradient), state, table)
        table = optax.apply_updates(table, updates)
    return np.asarray(table)


def test_is_dense_adamw_where_every_step_touches_every_row() -> None:
    gradients = [GENERATOR.normal(size=TABLE.shape).astype(np.float32) for _ in range(STEPS)]
    order = GENERATOR.permutation(len(TABLE)).astype(np.int32)
    table, memory = TABLE, rows.remember(OPTIMISER, TABLE)
    for gradient in gradients:
        table, memory = move(table, memory, jnp.asarray(order), jnp.asarray(gradient[order]))
    assert np.allclose(table, dense(TABLE, gradients), atol=1e-6)


def test_a_row_is_moved_as_if_there_were_only_the_steps_that_touch_it() -> None:
    table, memory = TABLE, rows.remember(OPTIMISER, TABLE)
    touched: dict[int, list[NDArray[np.float32]]] = {}
    for _ in range(STEPS):
        named = GENERATOR.choice(len(TABLE), size=4, replace=False).astype(np.int32)
        gradients = GENERATOR.normal(size=(4, 3)).astype(np.float32)
        for row, gradient in zip(named, gradients, strict=True):
            touched.setdefault(int(row), []).append(gradient)
        before, remembered = np.array(table), jax.tree.map(np.array, memory)
        table, memory = move(table, memory, jnp.asarray(named), jnp.asarray(gradients))
        others = np.setdiff1d(np.arange(len(TABLE)), named)
        for old, new in zip(jax.tree.leaves((before, remembered)), jax.tree.leaves((table, memory)), strict=True):
            assert np.array_equal(old[others], np.asarray(new)[others])
            assert not np.array_equal(old[named], np.asarray(new)[named])
    assert len(touched) > 1
    for row, gradients_of_it in touched.items():
        assert np.allclose(table[row], dense(TABLE[row], gradients_of_it), atol=1e-6)


def test_rows_that_are_not_there_are_passed_over() -> None:
    memory = rows.remember(OPTIMISER, TABLE)
    table, now = move(TABLE, memory, jnp.array([2, 7, 8, 9], jnp.int32), jnp.ones((4, 3)))
    assert np.flatnonzero((np.asarray(table) != np.asarray(TABLE)).any(axis=1)).tolist() == [2]
    assert [leaf.shape[0] for leaf in jax.tree.leaves(now)] == [7] * len(jax.tree.leaves(now))
    assert np.array_equal(rows.read(TABLE, jnp.array([6, 7])), np.stack([np.asarray(TABLE[6]), np.zeros(3)]))


@given(st.lists(st.lists(st.integers(0, 199), min_size=1, max_size=90), min_size=1, max_size=3))
def test_distinct_names_each_row_once_and_places_point_at_them(values: list[list[int]]) -> None:
    arrays = [np.array(value, np.int32) for value in values]
    named, places = rows.distinct(arrays, 200)
    there = named[named < 200]
    assert there.tolist() == sorted({0, *np.concatenate(arrays).tolist()})
    assert len(np.unique(named)) == len(named) in {64, 128, 200}
    for array, place in zip(arrays, places, strict=True):
        assert np.array_equal(named[place], array)


@pytest.mark.parametrize("size", [1, 5, 64, 65])
def test_there_are_never_more_rows_than_the_table_has(size: int) -> None:
    named, _ = rows.distinct([np.arange(size, dtype=np.int32)], size)
    assert named.tolist() == list(range(size))
