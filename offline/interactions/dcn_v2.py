"""DCN-v2 (Wang et al. 2021): a network of crosses, each of which multiplies the features once more, and a deep part."""

from __future__ import annotations

from collections.abc import Sequence

import jax
from flax import nnx

from offline.interactions.deep import Beside, Deep


class DcnV2(Beside):
    """tokens float32[B, L, d] → float32[B, L · d + n]: the paper's parallel form, crosses beside a deep part."""

    def __init__(
        self, tokens: int, width: int, layers: int, units: Sequence[int], dropout: float, rngs: nnx.Rngs
    ) -> None:
        super().__init__(Cross(tokens, width, layers, rngs), Deep(tokens, width, units, dropout, rngs))


class Cross(nnx.Module):
    """tokens float32[B, L, d] → float32[B, L · d]: x_{l+1} = x_0 ⊙ (W_l x_l + b_l) + x_l, x_0 = concat(e_1 … e_L)."""

    def __init__(self, tokens: int, width: int, layers: int, rngs: nnx.Rngs) -> None:
        self.size = tokens * width
        self.layers = nnx.List([nnx.Linear(self.size, self.size, rngs=rngs) for _ in range(layers)])

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        first = crossed = tokens.reshape(len(tokens), -1)
        for layer in self.layers:
            crossed = first * layer(crossed) + crossed
        return crossed
