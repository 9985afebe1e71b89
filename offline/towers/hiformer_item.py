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
    moved by what the task token makes of them together. A fresh item has no id of its own (UNKNOWN): its id's token is
    what one would expect of its features, so it lands among those that are like it. In training (`key` given) some ids
    are replaced by UNKNOWN. Where items have no features at all, UNKNOWN has an embedding like any id.
    """

    def __init__(self, num_items: int, like: Fields, config: Train, rngs: nnx.Rngs) -> None:
        width = config.dimension
        small = nnx.initializers.normal(EMBEDDING)
        self.task = nnx.Param(small(rngs.params(), (1, width)))
        self.embedding = Embedding(num_items + 1, width, rngs)
        self.features = Preprocess(like, config.hiformer.dense_tokens, config.feature_buckets, width, rngs)
        self.body = Hiformer(2 + self.features.num_tokens, 1, width, config.hiformer, rngs)
        self.output = PerToken(1, width, width, rngs, scale=0.0)
        known = self.features.num_tokens * width
        self.expected = PerToken(1, known, width, rngs, scale=0.0) if known else None
        self.id_dropout = config.id_dropout

    def __call__(self, ids: jax.Array, fields: Fields, key: jax.Array | None = None) -> jax.Array:
        """See the class."""
        if key is not None:
            ids = jnp.where(jax.random.bernoulli(key, self.id_dropout, ids.shape), UNKNOWN, ids)
        features = self.features(fields)
        own = self.embedding(ids)
        if self.expected is not None:
            own = jnp.where((ids == UNKNOWN)[:, None], self._expect(features), own)
        task = jnp.broadcast_to(self.task[...], (ids.shape[0], *self.task.shape))
        tokens = jnp.concatenate([task, own[:, None], features], axis=1)
        together = EMBEDDING * self.output(self.body(tokens))[:, 0]
        return unit(tokens[:, 1:].sum(axis=1) + together)

    def surprise(self, ids: jax.Array, fields: Fields, there: jax.Array) -> jax.Array:
        """Mean squared distance of ids' embeddings to what one would expect of the features; moves the latter alone.

        Args:
            ids: int32[n].
            fields: of n rows.
            there: bool[n], which rows count.
        """
        expected = self._expect(jax.lax.stop_gradient(self.features(fields)))
        apart = jnp.sum((expected - jax.lax.stop_gradient(self.embedding(ids))) ** 2, axis=1)
        return jnp.sum(apart * there) / jnp.maximum(jnp.sum(there), 1)

    def _expect(self, features: jax.Array) -> jax.Array:
        """Features' tokens float32[n, L, d] → float32[n, d], the id's token as far as these tell it."""
        if self.expected is None:
            return jnp.zeros((features.shape[0], features.shape[-1]))
        flat = jax.nn.standardize(features, axis=-1).reshape(features.shape[0], 1, -1)
        return EMBEDDING * self.expected(flat)[:, 0]
