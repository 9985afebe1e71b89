"""The feature tower: a bag of hashed tokens as the mean of their embeddings."""

import jax
import jax.numpy as jnp
from flax import nnx

from offline.features.tokens import EMPTY
from offline.towers.embedding import Embedding


class FeatureTower(nnx.Module):
    """tokens int32[..., M] → float32[..., D]; a row without tokens gives 0."""

    def __init__(self, buckets: int, dimension: int, rngs: nnx.Rngs) -> None:
        self.embedding = Embedding(buckets, dimension, rngs)

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        there = (tokens != EMPTY)[..., None]
        total = jnp.sum(self.embedding(tokens) * there, axis=-2)
        return total / jnp.maximum(jnp.sum(there, axis=-2), 1)
