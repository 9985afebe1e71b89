"""The item tower as a Hiformer over the item's id and features."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.batches import UNKNOWN
from offline.config import Train
from offline.features.fields import Fields
from offline.towers.embedding import EMBEDDING, Embedding
from offline.towers.hiformer import Hiformer
from offline.towers.preprocess import Preprocess
from offline.towers.projection import PerToken
from offline.towers.sphere import unit


class HiformerItemTower(nnx.Module):
    """ids int32[n], fields of n rows → float32[n, D] of length 1.

    Tokens: one task token, the id, the features. The vector is what the id and the features say each alone, their sum,
    moved by what the task token makes of them together. In training (`key` given) some ids are replaced by UNKNOWN, so
    that a fresh item, which has no other id, gets a vector that its features have learned to fill.
    """

    def __init__(self, num_items: int, like: Fields, config: Train, rngs: nnx.Rngs) -> None:
        width = config.dimension
        small = nnx.initializers.normal(EMBEDDING)
        self.task = nnx.Param(small(rngs.params(), (1, width)))
        self.embedding = Embedding(num_items + 1, width, rngs)
        self.features = Preprocess(like, config.hiformer.dense_tokens, config.feature_buckets, width, rngs)
        self.body = Hiformer(2 + self.features.num_tokens, 1, width, config.hiformer, rngs)
        self.output = PerToken(1, width, width, rngs, scale=0.0)
        self.id_dropout = config.id_dropout

    def __call__(self, ids: jax.Array, fields: Fields, key: jax.Array | None = None) -> jax.Array:
        """See the class."""
        if key is not None:
            ids = jnp.where(jax.random.bernoulli(key, self.id_dropout, ids.shape), UNKNOWN, ids)
        task = jnp.broadcast_to(self.task[...], (ids.shape[0], *self.task.shape))
        tokens = jnp.concatenate([task, self.embedding(ids)[:, None], self.features(fields)], axis=1)
        together = EMBEDDING * self.output(self.body(tokens))[:, 0]
        return unit(tokens[:, 1:].sum(axis=1) + together)
