"""Dropout with eight random bits a value: nnx draws 32, which takes a CPU longer than the layer itself."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class Dropout(nnx.Module):
    """float32[...] → the same shape; in training each value is 0 at the rate, which is rounded to a 256th."""

    def __init__(self, rate: float, rngs: nnx.Rngs) -> None:
        self.dropped = round(256 * rate)  # of 256 values
        self.deterministic = False
        self.rngs = rngs.dropout.fork()

    def __call__(self, values: jax.Array) -> jax.Array:
        """See the class."""
        if self.deterministic or not self.dropped:
            return values
        kept = jax.random.bits(self.rngs(), values.shape, jnp.uint8) >= self.dropped
        return jnp.where(kept, values * (256 / (256 - self.dropped)), 0.0)
