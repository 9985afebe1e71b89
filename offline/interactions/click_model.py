"""A model of clicks: embeddings, an interaction, and a linear head that puts a logit on what is known of the row."""

from __future__ import annotations

import jax
from flax import nnx

from offline.interactions.embeddings import Embeddings
from offline.interactions.interaction import Interaction


class ClickModel(nnx.Module):
    """ids int32[B, C], numbers float32[B, D] → logits float32[B] of being answered."""

    def __init__(self, embeddings: Embeddings, interaction: Interaction, rngs: nnx.Rngs) -> None:
        self.embeddings, self.interaction = embeddings, interaction
        self.head = nnx.Linear(interaction.size, 1, rngs=rngs)

    def __call__(self, ids: jax.Array, numbers: jax.Array) -> jax.Array:
        """See the class."""
        return self.head(self.interaction(self.embeddings(ids, numbers)))[:, 0]
