"""The item tower: what an item is called and what is said of it, as one unit vector."""

import jax
import jax.numpy as jnp
from flax import nnx

from offline.batches import UNKNOWN
from offline.towers.embedding import Embedding
from offline.towers.features import FeatureTower
from offline.towers.sphere import unit


class ItemTower(nnx.Module):
    """ids int32[n], tokens int32[n, M] → float32[n, D] of length 1.

    In training (`key` given) some ids are replaced by UNKNOWN, so that a fresh item, which has no other id, gets a
    vector that its features have learned to fill.
    """

    def __init__(self, num_items: int, buckets: int, dimension: int, id_dropout: float, rngs: nnx.Rngs) -> None:
        self.embedding = Embedding(num_items + 1, dimension, rngs)
        self.features = FeatureTower(buckets, dimension, rngs)
        self.output = nnx.Linear(dimension, dimension, rngs=rngs)
        self.id_dropout = id_dropout

    def __call__(self, ids: jax.Array, tokens: jax.Array, key: jax.Array | None = None) -> jax.Array:
        """See the class."""
        if key is not None:
            ids = jnp.where(jax.random.bernoulli(key, self.id_dropout, ids.shape), UNKNOWN, ids)
        return unit(self.output(self.embedding(ids) + self.features(tokens)))

    def surprise(self, ids: jax.Array, tokens: jax.Array, there: jax.Array) -> jax.Array:  # noqa: ARG002
        """Nothing: UNKNOWN has an embedding of its own, which `id_dropout` trains."""
        return jnp.zeros(())
