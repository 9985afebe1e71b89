"""The preprocess layer: a row's features as tokens of one width (Hiformer, §3)."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.features.fields import Fields
from offline.towers.embedding import EMBEDDING
from offline.towers.features import FeatureTower
from offline.towers.projection import PerToken


class Preprocess(nnx.Module):
    """Fields of n rows → float32[n, F + n_D + V, d]: a token for each column of words, n_D for all numbers, V vectors.

    Words of all columns share one table of embeddings; they are hashed with their column's name, so that they meet by
    accident only. All numbers go through one network, which is cut into tokens: many numbers make few tokens. A vector
    becomes a token by a matrix of its own.
    """

    def __init__(self, like: Fields, dense_tokens: int, buckets: int, width: int, rngs: nnx.Rngs) -> None:
        numbers = like.numbers.shape[1]
        self.width = width
        self.dense_tokens = min(dense_tokens, numbers)
        self.num_tokens = len(like.words) + self.dense_tokens + len(like.vectors)
        self.words = FeatureTower(buckets, width, rngs) if like.words else None
        self.inner = PerToken(1, numbers, width, rngs) if numbers else None
        self.outer = PerToken(1, width, self.dense_tokens * width, rngs) if numbers else None
        self.vectors = nnx.List([PerToken(1, vectors.shape[1], width, rngs) for vectors in like.vectors])

    def __call__(self, fields: Fields) -> jax.Array:
        """See the class."""
        rows = fields.numbers.shape[0]
        tokens = [jnp.zeros((rows, 0, self.width))]
        if self.words is not None:
            tokens += [self.words(jnp.asarray(column))[:, None] for column in fields.words]
        if self.inner is not None and self.outer is not None:
            dense = EMBEDDING * self.outer(nnx.relu(self.inner(jnp.asarray(fields.numbers)[:, None])))
            tokens.append(dense.reshape(rows, self.dense_tokens, self.width))
        for vectors, projection in zip(fields.vectors, self.vectors, strict=True):
            # Of length √D_v, so that its entries are as large as a number's.
            scaled = jnp.sqrt(vectors.shape[1]) * jnp.asarray(vectors)
            tokens.append(EMBEDDING * projection(scaled[:, None]))
        return jnp.concatenate(tokens, axis=1)
