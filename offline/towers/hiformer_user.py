"""The user tower as a Hiformer over the user's history and features, with a task token for each interest."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.config import Train
from offline.features.fields import Fields
from offline.towers.embedding import EMBEDDING
from offline.towers.hiformer import Hiformer
from offline.towers.pooling import HistoryPooling
from offline.towers.preprocess import Preprocess
from offline.towers.projection import PerToken
from offline.towers.sphere import unit


class HiformerUserTower(nnx.Module):
    """items float32[S, D], history int32[B, N] (places in `items`), fields of B rows → float32[B, H, D] of length 1.

    Tokens: H task tokens, H mixtures of the history, the features. Interest h is the h-th mixture, moved by what the
    h-th task token makes of everything. Mixing the item tower's own output ties the two towers: what a user took
    before scores high by itself.
    """

    def __init__(self, like: Fields, config: Train, rngs: nnx.Rngs) -> None:
        width, interests = config.dimension, config.interests
        self.tasks = nnx.Param(nnx.initializers.normal(EMBEDDING)(rngs.params(), (interests, width)))
        self.history = HistoryPooling(config.history_length, interests, width, rngs)
        self.features = Preprocess(like, config.hiformer.dense_tokens, config.feature_buckets, width, rngs)
        tokens = 2 * interests + self.features.num_tokens
        self.body = Hiformer(tokens, interests, width, config.hiformer, rngs)
        self.output = PerToken(interests, width, width, rngs, scale=0.0)
        projection = config.projection
        self.inner = PerToken(interests, width, projection, rngs) if projection else None
        self.outer = PerToken(interests, projection, width, rngs, scale=0.0) if projection else None

    def __call__(self, items: jax.Array, history: jax.Array, fields: Fields) -> jax.Array:
        """See the class."""
        return self._interests(self.history(items, history), fields)

    def of(self, history: jax.Array, fields: Fields) -> jax.Array:
        """The same of a history's own vectors, float32[B, N, D]; rows of zeros past the end."""
        return self._interests(self.history.of(history), fields)

    def _interests(self, pooled: jax.Array, fields: Fields) -> jax.Array:
        tasks = jnp.broadcast_to(self.tasks[...], (pooled.shape[0], *self.tasks.shape))
        tokens = jnp.concatenate([tasks, pooled, self.features(fields)], axis=1)
        together = self.body(tokens)
        if self.inner is not None and self.outer is not None:
            together = together + self.outer(nnx.gelu(self.inner(together), approximate=False))
        together = self.output(together) / jnp.sqrt(pooled.shape[-1])  # a unit vector has entries this small
        return unit(pooled + together)
