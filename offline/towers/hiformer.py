"""Hiformer (Gui et al. 2023): attention over features in which every feature has parameters of its own.

A user or an item is a list of L tokens, one a feature, each float32[d]. The first t are task tokens: learned, the same
for everybody, and the only ones that are read at the end. A vanilla Transformer projects all tokens with the same
matrices, so it cannot learn that an id means one thing to the country and another to the price. Here they differ by
token (`PerToken`), and keys and values are made of all tokens at once (`Composite`).
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.config import Hiformer as Config
from offline.interactions.dropout import Dropout
from offline.towers.projection import Composite, PerToken


class Hiformer(nnx.Module):
    """tokens float32[B, L, d], task tokens first → float32[B, t, d], the task tokens after all layers."""

    def __init__(
        self, tokens: int, tasks: int, width: int, config: Config, rngs: nnx.Rngs, dropout: float = 0.0
    ) -> None:
        # Nobody reads the last layer's other tokens, so it does not compute them.
        outputs = [tokens] * (config.layers - 1) + [tasks]
        self.layers = nnx.List([Layer(tokens, kept, width, config, rngs, dropout) for kept in outputs])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens


class Layer(nnx.Module):
    """tokens float32[B, L, d] → float32[B, q, d], the first q tokens; q < L prunes the layer to the task tokens.

    Pre-norm; the norms have no parameters, since the projections after them would take these up.
    """

    def __init__(
        self, tokens: int, outputs: int, width: int, config: Config, rngs: nnx.Rngs, dropout: float = 0.0
    ) -> None:
        self.outputs, self.heads = outputs, config.heads
        keys, values = config.heads * config.key_width, config.heads * config.value_width
        # Queries are made of all tokens where all are kept; a pruned layer asks from its task tokens alone.
        pruned = outputs < tokens
        self.query = (
            PerToken(outputs, width, keys, rngs) if pruned else _projection(tokens, width, keys, config, "key", rngs)
        )
        self.key = _projection(tokens, width, keys, config, "key", rngs)
        self.value = _projection(tokens, width, values, config, "value", rngs)
        self.output = PerToken(outputs, values, width, rngs)
        self.inner = PerToken(outputs, width, 4 * width, rngs)
        self.outer = PerToken(outputs, 4 * width, width, rngs)
        self.dropout = Dropout(dropout, rngs) if dropout else None

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        normed = norm(tokens)
        return self.answer(tokens[:, : self.outputs], self.key(normed), self.value(normed))

    def answer(self, asking: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        """The tokens that are kept, float32[B, q, d], after they have asked all tokens' keys and values."""
        kept = asking + self.output(self._dropped(self._attend(self.query(norm(asking)), keys, values)))
        return kept + self.outer(self._dropped(nnx.gelu(self.inner(norm(kept)), approximate=False)))

    def _dropped(self, values: jax.Array) -> jax.Array:
        return values if self.dropout is None else self.dropout(values)

    def _attend(self, queries: jax.Array, keys: jax.Array, values: jax.Array) -> jax.Array:
        """float32[B, q, heads · d_k], [B, L, heads · d_k], [B, L, heads · d_v] → float32[B, q, heads · d_v]."""
        queries, keys, values = (
            projected.reshape(*projected.shape[:2], self.heads, -1) for projected in (queries, keys, values)
        )
        affinity = jnp.einsum("bqhk,blhk->bhql", queries, keys) / jnp.sqrt(keys.shape[-1])
        mixed = jnp.einsum("bhql,blhv->bqhv", jax.nn.softmax(affinity, axis=-1), values)
        return mixed.reshape(*mixed.shape[:2], -1)


def norm(tokens: jax.Array) -> jax.Array:
    """Each token, float32[..., d], with mean 0 and deviation 1."""
    return jax.nn.standardize(tokens, axis=-1)


def _projection(tokens: int, width: int, size: int, config: Config, what: str, rngs: nnx.Rngs) -> PerToken | Composite:
    if config.projection == "per_token":
        return PerToken(tokens, width, size, rngs)
    ranks = {"key": config.key_rank, "value": config.value_rank}
    return Composite(tokens, width, size, None if config.projection == "full_rank" else ranks[what], rngs)
