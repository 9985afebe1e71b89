"""Unit vectors, on which inner product and cosine agree."""

import jax
import jax.numpy as jnp


def unit(vectors: jax.Array) -> jax.Array:
    """Scale float[..., D] to length 1; differentiable at 0, which stays there."""
    return vectors * jax.lax.rsqrt(jnp.sum(vectors * vectors, axis=-1, keepdims=True) + 1e-12)
