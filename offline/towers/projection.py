"""Projections of tokens: with a matrix for each token (heterogeneous attention), or from all tokens at once (Hiformer).

Gui et al. 2023, Hiformer: Heterogeneous Feature Interactions Learning with Transformers.

A matrix W is kept as √inputs · W, with entries of deviation 1. So an optimiser that moves every parameter by about the
learning rate, as Adam does, moves what comes out of any matrix as slowly as it moves an embedding; kept as it is, a
matrix of some hundred rows would outrun the embeddings and turn all items into one.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from flax import nnx


class PerToken(nnx.Module):
    """tokens float32[B, L, d] → float32[B, L, n]: token i becomes e_i W_i + b_i, at first 0 with `scale` 0."""

    def __init__(self, tokens: int, width: int, size: int, rngs: nnx.Rngs, scale: float = 1.0) -> None:
        self.kernel = nnx.Param(scale * jax.random.normal(rngs.params(), (tokens, width, size)))
        self.bias = nnx.Param(jnp.zeros((tokens, size)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        kernels = self.kernel[...] / jnp.sqrt(max(tokens.shape[-1], 1))
        # One product a token: of a product batched over tokens XLA's CPU code takes half as long again.
        products = [tokens[:, number] @ kernels[number] for number in range(kernels.shape[0])]
        return jnp.stack(products, axis=1) + self.bias[...]


class Composite(nnx.Module):
    """tokens float32[B, L, d] → float32[B, L, n]: concat(e_1 … e_L) Ŵ + b, cut into L vectors.

    So each of the L results knows all tokens. Ŵ is L·d × L·n; with a rank r it is a product of L·d × r and r × L·n,
    which has fewer parameters where r < L·d·n / (d + n).
    """

    def __init__(self, tokens: int, width: int, size: int, rank: int | None, rngs: nnx.Rngs) -> None:
        inside, outside = tokens * width, tokens * size
        shapes = [(inside, outside)] if rank is None else [(inside, rank), (rank, outside)]
        self.factors = nnx.List([nnx.Param(jax.random.normal(rngs.params(), shape)) for shape in shapes])
        self.bias = nnx.Param(jnp.zeros((tokens, size)))

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        return self.finish(self.share(tokens, 0))

    def share(self, tokens: jax.Array, first: int) -> jax.Array:
        """What some tokens, float32[B, l, d] from place `first` on, add to the product with the first factor.

        The shares of all tokens add up to it, so those of tokens that many rows have in common are computed once.

        Returns:
            float32[B, r].
        """
        flat = tokens.reshape(tokens.shape[0], -1)
        factor = self.factors[0][...]
        start = first * tokens.shape[-1]
        return flat @ factor[start : start + flat.shape[-1]] / jnp.sqrt(factor.shape[0])

    def finish(self, product: jax.Array) -> jax.Array:
        """All tokens' shares together, float32[B, r] → float32[B, L, n]."""
        for factor in self.factors[1:]:
            product = product @ factor[...] / jnp.sqrt(product.shape[-1])
        return product.reshape(product.shape[0], *self.bias.shape) + self.bias[...]
