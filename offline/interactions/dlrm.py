"""DLRM (Naumov et al. 2019): inner products of all pairs of tokens, and a network on them."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from offline.interactions.deep import Network


class Dlrm(nnx.Module):
    """tokens float32[B, L, d] → float32[B, n]: a network over ⟨e_i, e_j⟩ for i < j and the last tokens themselves.

    The last `dense` tokens are those that the dense features were made into, which the paper lets pass as well.
    """

    def __init__(
        self, tokens: int, width: int, dense: int, units: Sequence[int], dropout: float, rngs: nnx.Rngs
    ) -> None:
        self.first_dense = tokens - dense
        self.network = Network(tokens * (tokens - 1) // 2 + dense * width, units, dropout, rngs)
        self.size = self.network.size

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        rows, columns = jnp.triu_indices(tokens.shape[1], k=1)
        products = jnp.einsum("bid,bjd->bij", tokens, tokens)[:, rows, columns]
        dense = tokens[:, self.first_dense :].reshape(len(tokens), -1)
        return self.network(jnp.concatenate([products, dense], axis=1))
