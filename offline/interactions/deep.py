"""The deep part: a plain network over all tokens at once, and an interaction that has one beside it."""

from __future__ import annotations

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import nnx

from offline.interactions.dropout import Dropout
from offline.interactions.interaction import Interaction


class Network(nnx.Module):
    """float32[B, m] → float32[B, n]: layers of n1, n2, … n units, each normalised over the batch, ReLU, dropout."""

    def __init__(self, inputs: int, units: Sequence[int], dropout: float, rngs: nnx.Rngs) -> None:
        sizes = [inputs, *units]
        self.layers = nnx.List([nnx.Linear(sizes[i], sizes[i + 1], rngs=rngs) for i in range(len(units))])
        self.norms = nnx.List([nnx.BatchNorm(size, momentum=0.9, rngs=rngs) for size in units])
        self.dropout = Dropout(dropout, rngs)
        self.size = sizes[-1]

    def __call__(self, values: jax.Array) -> jax.Array:
        """See the class."""
        for layer, norm in zip(self.layers, self.norms, strict=True):
            values = self.dropout(nnx.relu(norm(layer(values))))
        return values


class Deep(nnx.Module):
    """tokens float32[B, L, d] → float32[B, n]: a network over concat(e_1 … e_L)."""

    def __init__(self, tokens: int, width: int, units: Sequence[int], dropout: float, rngs: nnx.Rngs) -> None:
        self.network = Network(tokens * width, units, dropout, rngs)
        self.size = self.network.size

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        return self.network(tokens.reshape(len(tokens), -1))


class Beside(nnx.Module):
    """tokens float32[B, L, d] → float32[B, n1 + n2]: what each of two interactions makes of them."""

    def __init__(self, one: Interaction, other: Interaction) -> None:
        self.one, self.other = one, other
        self.size = one.size + other.size

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        return jnp.concatenate([self.one(tokens), self.other(tokens)], axis=1)
