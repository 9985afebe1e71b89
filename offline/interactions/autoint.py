"""AutoInt (Song et al. 2019): self-attention over feature tokens, all of which are read at the end."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.interactions.dropout import Dropout


class AutoInt(nnx.Module):
    """tokens float32[B, L, d] → float32[B, L · heads · d′] after as many layers of `Interacting` as asked."""

    def __init__(
        self, tokens: int, width: int, layers: int, heads: int, head_width: int, dropout: float, rngs: nnx.Rngs
    ) -> None:
        widths = [width] + [heads * head_width] * layers
        self.layers = nnx.List([Interacting(widths[i], heads, head_width, rngs) for i in range(layers)])
        self.dropout = Dropout(dropout, rngs)
        self.size = tokens * widths[-1]

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        for layer in self.layers:
            tokens = self.dropout(layer(tokens))
        return tokens.reshape(len(tokens), -1)


class Interacting(nnx.Module):
    """tokens float32[B, L, d] → float32[B, L, heads · d′]: e_i becomes ReLU(concat_h Σ_j α^h_ij W_V^h e_j + W_Res e_i).

    α^h_ij = softmax_j ⟨W_Q^h e_i, W_K^h e_j⟩, not scaled, as in the paper (eq. 5 to 8).
    """

    def __init__(self, width: int, heads: int, head_width: int, rngs: nnx.Rngs) -> None:
        self.heads, self.head_width = heads, head_width
        self.query, self.key, self.value, self.residual = (
            nnx.Linear(width, heads * head_width, use_bias=False, rngs=rngs) for _ in range(4)
        )

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        queries, keys, values = (
            projection(tokens).reshape(*tokens.shape[:2], self.heads, self.head_width)
            for projection in (self.query, self.key, self.value)
        )
        attention = jax.nn.softmax(jnp.einsum("bihk,bjhk->bhij", queries, keys), axis=-1)
        mixed = jnp.einsum("bhij,bjhk->bihk", attention, values)
        return nnx.relu(mixed.reshape(*mixed.shape[:2], -1) + self.residual(tokens))
