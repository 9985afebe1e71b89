"""The user tower: what a user did and what is known of them, as unit vectors."""

import jax
import jax.numpy as jnp
from flax import nnx

from offline.towers.features import FeatureTower
from offline.towers.history import HistoryTower
from offline.towers.sphere import unit


class UserTower(nnx.Module):
    """items float32[S, D], history int32[B, L] (places in `items`), tokens int32[B, M] → float32[B, H, D] of length 1.

    H is the number of interests; this tower gives one, so H = 1. The axis is there for towers that give several.
    """

    def __init__(self, length: int, buckets: int, dimension: int, hidden: int, rngs: nnx.Rngs) -> None:
        self.history = HistoryTower(length, dimension)
        self.features = FeatureTower(buckets, dimension, rngs)
        self.inner = nnx.Linear(2 * dimension, hidden, rngs=rngs)
        self.output = nnx.Linear(hidden, dimension, rngs=rngs)

    def __call__(self, items: jax.Array, history: jax.Array, tokens: jax.Array) -> jax.Array:
        """See the class."""
        return self._interests(self.history(items, history), tokens)

    def of(self, history: jax.Array, tokens: jax.Array) -> jax.Array:
        """The same of a history's own vectors, float32[B, N, D]; rows of zeros past the end."""
        return self._interests(self.history.of(history), tokens)

    def _interests(self, pooled: jax.Array, tokens: jax.Array) -> jax.Array:
        both = jnp.concatenate([pooled, self.features(tokens)], axis=-1)
        return unit(pooled + self.output(nnx.gelu(self.inner(both))))[:, None, :]
