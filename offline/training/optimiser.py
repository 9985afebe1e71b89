"""The optimiser of a model: AdamW, dense for its parameters, by rows for its tables of embeddings."""

from __future__ import annotations

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import optax  # type: ignore[import-untyped]
from flax import nnx

from offline.towers.embedding import Table
from offline.towers.two_tower import TwoTower
from offline.training import processes, rows


class Memory(nnx.Variable[jax.Array]):
    """What the optimiser remembers of a table's rows."""


def _beside_the_item_tower(path: tuple[Any, ...], value: Any) -> bool:  # noqa: ARG001
    return bool(path[0] != "item")


ALL = nnx.Param
"""What an optimiser moves: every parameter."""

USER_SIDE = nnx.All(nnx.Param, _beside_the_item_tower)
"""What an optimiser moves: the user tower and the temperature, so that the items' vectors stay what they are."""


class Optimiser(nnx.Module):
    """AdamW whose learning rate falls to 0 along a cosine, or stays.

    Its memory is two floats a parameter, and for each row of a table one integer more. What is compiled for one serves
    all that differ in learning rate and steps alone.

    Args:
        model: whose parameters it will move.
        learning_rate: at first.
        weight_decay: times the learning rate; a table's row decays in the steps that touch it.
        steps: after which the learning rate is 0; None keeps it.
        wrt: which parameters, ALL or USER_SIDE; others stay.
    """

    def __init__(
        self, model: TwoTower, learning_rate: float, weight_decay: float, steps: int | None, wrt: Any = ALL
    ) -> None:
        self.wrt = wrt
        self.adamw = _adamw(weight_decay)
        self.learning_rate = Memory(jnp.float32(learning_rate))
        self.steps = Memory(jnp.float32(jnp.inf if steps is None else steps))
        self.taken = Memory(jnp.int32(0))
        dense = self.adamw.init(nnx.as_pure(nnx.state(model, nnx.All(wrt, nnx.Not(Table)))))
        tables = nnx.to_flat_state(nnx.state(model, nnx.All(wrt, Table)))
        by_rows = {name(path): rows.remember(self.adamw, table[...]) for path, table in tables}
        self.dense, self.by_rows = (nnx.data(jax.tree.map(Memory, memory)) for memory in (dense, by_rows))
        processes.spread(self)

    def go_on(self, learning_rate: float, steps: int) -> None:
        """From now on at another rate, which falls to 0 in so many steps, with the memory that there is."""
        self.learning_rate[...] = jnp.float32(learning_rate)
        self.steps[...] = jnp.float32(steps)
        self.taken[...] = jnp.int32(0)

    def move(self, model: TwoTower, gradients: Any, touched: dict[str, jax.Array]) -> None:
        """Move a model.

        Args:
            model: changed in place.
            gradients: of the parameters, and of the touched rows of each table.
            touched: int32[R] a table, by `name`.
        """
        share = jnp.minimum(self.taken[...] / self.steps[...], 1.0)
        rate = self.learning_rate[...] * 0.5 * (1 + jnp.cos(jnp.pi * share))
        self.taken[...] += 1
        which = nnx.All(self.wrt, nnx.Not(Table))
        parameters, slopes = (nnx.as_pure(nnx.state(tree, which)) for tree in (model, gradients))
        updates, dense = self.adamw.update(slopes, nnx.as_pure(self.dense), parameters)
        nnx.update(model, jax.tree.map(lambda parameter, update: parameter + rate * update, parameters, updates))
        nnx.update(self.dense, nnx.state(dense))
        row_slopes = dict(nnx.to_flat_state(nnx.state(gradients, Table)))
        for path, table in nnx.to_flat_state(nnx.state(model, nnx.All(self.wrt, Table))):
            memory = self.by_rows[name(path)]
            moved, now = rows.move(
                self.adamw, rate, table[...], nnx.as_pure(memory), touched[name(path)], row_slopes[path][...]
            )
            nnx.update(model, nnx.from_flat_state([(path, table.replace(moved))]))
            nnx.update(memory, nnx.state(now))


def name(path: tuple[Any, ...]) -> str:
    """A table by its place in the model: `item.embedding`, `item.features` or `user.features`."""
    return ".".join(map(str, path[:2]))


@cache  # what is compiled for one training serves the next with the same settings
def _adamw(weight_decay: float) -> optax.GradientTransformation:
    return rows.adamw(weight_decay)
