"""The vanilla Transformer over feature tokens and task tokens: one set of matrices for all of them."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.interactions.dropout import Dropout
from offline.interactions.task import TaskTokens


class Transformer(nnx.Module):
    """tokens float32[B, L, d] → float32[B, t · d], the t task tokens after all layers.

    The last layer is pruned: only its task tokens are computed. Features differ by their embeddings alone, so there
    are no positions.
    """

    def __init__(
        self,
        width: int,
        layers: int,
        heads: int,
        key_width: int,
        value_width: int,
        dropout: float,
        rngs: nnx.Rngs,
        tasks: int = 1,
    ) -> None:
        self.tasks = TaskTokens(tasks, width, rngs)
        self.layers = nnx.List(
            [Layer(width, heads, key_width, value_width, dropout, rngs) for _ in range(layers)],
        )
        self.size = tasks * width

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        tokens = self.tasks(tokens)
        for layer in self.layers[:-1]:
            tokens = layer(tokens, tokens.shape[1])
        return self.layers[-1](tokens, self.tasks.count).reshape(len(tokens), -1)


class Layer(nnx.Module):
    """tokens float32[B, L, d] → float32[B, q, d], the first q tokens. Pre-norm, as Hiformer's layer."""

    def __init__(
        self, width: int, heads: int, key_width: int, value_width: int, dropout: float, rngs: nnx.Rngs
    ) -> None:
        self.heads = heads
        self.query, self.key = (nnx.Linear(width, heads * key_width, rngs=rngs) for _ in range(2))
        self.value = nnx.Linear(width, heads * value_width, rngs=rngs)
        self.output = nnx.Linear(heads * value_width, width, rngs=rngs)
        self.inner, self.outer = nnx.Linear(width, 4 * width, rngs=rngs), nnx.Linear(4 * width, width, rngs=rngs)
        self.dropout = Dropout(dropout, rngs)

    def __call__(self, tokens: jax.Array, outputs: int) -> jax.Array:
        """See the class."""
        normed = _norm(tokens)
        queries, keys, values = (
            projected.reshape(*projected.shape[:2], self.heads, -1)
            for projected in (self.query(normed[:, :outputs]), self.key(normed), self.value(normed))
        )
        affinity = jnp.einsum("bqhk,blhk->bhql", queries, keys) / jnp.sqrt(keys.shape[-1])
        mixed = jnp.einsum("bhql,blhv->bqhv", jax.nn.softmax(affinity, axis=-1), values)
        kept = tokens[:, :outputs] + self.output(self.dropout(mixed.reshape(*mixed.shape[:2], -1)))
        return kept + self.outer(self.dropout(nnx.gelu(self.inner(_norm(kept)), approximate=False)))


def _norm(tokens: jax.Array) -> jax.Array:
    return jax.nn.standardize(tokens, axis=-1)
