"""Task tokens: learned, the same for every row, put before its feature tokens and the only ones read at the end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class TaskTokens(nnx.Module):
    """tokens float32[B, L, d] → float32[B, t + L, d]."""

    def __init__(self, count: int, width: int, rngs: nnx.Rngs) -> None:
        self.count = count
        self.values = nnx.Param(jax.random.normal(rngs.params(), (count, width)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        values = jnp.broadcast_to(self.values[...], (len(tokens), *self.values.shape))
        return jnp.concatenate([values, tokens], axis=1)
