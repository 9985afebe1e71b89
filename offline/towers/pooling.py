"""History pooling: a user's latest items as a few tokens, by attention that does not know the target."""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx

from offline.data.timelines import PAD


class HistoryPooling(nnx.Module):
    """items float32[S, D] of length 1, history int32[B, N] → float32[B, n, D], n mixtures of the history.

    A history holds places in `items`, the latest first, PAD past the end. Token k weighs item i at place p by
    softmax(⟨q_k, i⟩ + b_kp): what it looks for, and how far back. Both are learned and the same for all users. An
    empty history gives learned tokens.
    """

    def __init__(self, length: int, tokens: int, dimension: int, rngs: nnx.Rngs) -> None:
        # Items have length 1, so queries of this size differ from the start in what they look for.
        self.queries = nnx.Param(jax.random.normal(rngs.params(), (tokens, dimension)))
        self.places = nnx.Param(jnp.zeros((length, tokens)))
        self.empty = nnx.Param(jnp.zeros((tokens, dimension)))

    def __call__(self, items: jax.Array, history: jax.Array) -> jax.Array:
        """See the class."""
        there = (history != PAD)[..., None]
        wanted = (items @ self.queries[...].T)[history] + self.places[...]
        weights = jax.nn.softmax(jnp.where(there, wanted, -1e9), axis=1) * there
        pooled = jnp.einsum("bnk,bnd->bkd", weights, items[history])
        return jnp.where(there.any(axis=1)[..., None], pooled, self.empty[...])

    def of(self, history: jax.Array) -> jax.Array:
        """The same of a history's own vectors, float32[B, N, D]; rows of zeros past the end."""
        there = jnp.any(history != 0, axis=-1, keepdims=True)
        places = self.places[...][jnp.cumsum(there[..., 0].astype(jnp.int32), axis=1) - 1]
        wanted = history @ self.queries[...].T + places
        weights = jax.nn.softmax(jnp.where(there, wanted, -1e9), axis=1) * there
        pooled = jnp.einsum("bnk,bnd->bkd", weights, history)
        return jnp.where(there.any(axis=1)[..., None], pooled, self.empty[...])

    def disagreement(self) -> jax.Array:
        """Σ over pairs of cos(q_h, q_h′): small where the tokens look for different things.

        The lengths are constants to the gradient, so that it turns the queries and does not stretch them.
        """
        queries = self.queries[...]
        lengths = jax.lax.stop_gradient(jnp.linalg.norm(queries, axis=1, keepdims=True))
        cosines = (queries / lengths) @ (queries / lengths).T
        return jnp.sum(cosines) - jnp.trace(cosines)
