"""Hiformer (Gui et al. 2023) under the contract: its task tokens are what is known of the row."""

from __future__ import annotations

import jax
from flax import nnx

from offline.config import Hiformer as Config
from offline.interactions.task import TaskTokens
from offline.towers.hiformer import Hiformer as Layers


class Hiformer(nnx.Module):
    """tokens float32[B, L, d] → float32[B, t · d]; HeteroAtt where `config.projection` is "per_token"."""

    def __init__(
        self, tokens: int, width: int, config: Config, rngs: nnx.Rngs, tasks: int = 1, dropout: float = 0.0
    ) -> None:
        self.tasks = TaskTokens(tasks, width, rngs)
        self.layers = Layers(tasks + tokens, tasks, width, config, rngs, dropout)
        self.size = tasks * width

    def __call__(self, tokens: jax.Array) -> jax.Array:
        """See the class."""
        return self.layers(self.tasks(tokens)).reshape(len(tokens), -1)
