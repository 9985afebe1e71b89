"""Tables of embeddings: a row for each item, word or category, of which a batch reads few."""

from __future__ import annotations

import jax
from flax import nnx

EMBEDDING = 0.05
"""Standard deviation of embeddings at the start."""


class Table(nnx.Param[jax.Array]):
    """A parameter float32[n, D] that is read row by row: training need not touch the rows that a batch does not read.

    Row 0 belongs to what is unknown or empty.
    """


class Embedding(nnx.Embed):
    """rows int[...] → float32[..., D], from a `Table`."""

    def __init__(self, rows: int, dimension: int, rngs: nnx.Rngs) -> None:
        super().__init__(rows, dimension, embedding_init=nnx.initializers.normal(EMBEDDING), rngs=rngs)
        self.embedding = Table(self.embedding[...])
