"""The preprocess layer of rows of ids: an embedding for each field, and a few tokens for all numbers."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

EMPTY = -1


class Embeddings(nnx.Module):
    """ids int32[B, C], numbers float32[B, D] → tokens float32[B, F + n_D, d].

    A field has a vocabulary of its own and one column or several: the token is the mean of their embeddings, EMPTY
    columns left out. All numbers go through one network, which is cut into n_D tokens.
    """

    def __init__(
        self, sizes: Sequence[int], columns: Sequence[int], numbers: int, dense: int, width: int, rngs: nnx.Rngs
    ) -> None:
        starts = np.cumsum([0, *sizes[:-1]])
        self.offsets = tuple(int(start) for start in np.repeat(starts, columns))
        self.columns = tuple(columns)
        self.width = width
        self.table = nnx.Param(1e-2 * jax.random.normal(rngs.params(), (sum(sizes), width)))
        self.inner = nnx.Linear(numbers, width, rngs=rngs) if dense else None
        self.outer = nnx.Linear(width, dense * width, rngs=rngs) if dense else None
        self.tokens = len(sizes) + dense

    def __call__(self, ids: jax.Array, numbers: jax.Array) -> jax.Array:
        """See the class."""
        there = (ids != EMPTY)[..., None]
        found = self.table[...][jnp.where(there[..., 0], ids + jnp.asarray(self.offsets), 0)]
        if max(self.columns) > 1:
            found = found * there
            ends = np.cumsum(self.columns)
            parts = [slice(end - n, end) for end, n in zip(ends, self.columns, strict=True)]
            found = jnp.stack([found[:, part].sum(1) / jnp.maximum(there[:, part].sum(1), 1) for part in parts], axis=1)
        if self.inner is None or self.outer is None:
            return found
        dense = self.outer(nnx.relu(self.inner(numbers))).reshape(len(ids), -1, self.width)
        return jnp.concatenate([found, dense], axis=1)
