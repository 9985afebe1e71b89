"""The contract: from a row's feature tokens to what is known of the row."""

from __future__ import annotations

from typing import Protocol

import jax


class Interaction(Protocol):
    """tokens float32[B, L, d], one a feature → float32[B, size], on which a linear head puts a logit.

    What behaves differently in training and in use (dropout, normalisation over the batch) follows nnx's own
    `train()` and `eval()`.
    """

    size: int

    def __call__(self, tokens: jax.Array, /) -> jax.Array:
        """See the class."""
        ...
