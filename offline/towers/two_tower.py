"""The two towers and the temperature of the softmax between them."""

import jax
import jax.numpy as jnp
from flax import nnx

from offline.config import Train
from offline.towers.item import ItemTower
from offline.towers.user import UserTower


class TwoTower(nnx.Module):
    """p(item | user) ∝ exp(max_h ⟨user_h, item⟩ / τ), with τ learned."""

    def __init__(self, num_items: int, config: Train, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        self.item = ItemTower(num_items, config.feature_buckets, config.dimension, config.id_dropout, rngs)
        self.user = UserTower(config.history_length, config.feature_buckets, config.dimension, config.hidden, rngs)
        self.log_temperature = nnx.Param(jnp.log(jnp.float32(config.temperature)))

    def scores(self, users: jax.Array, items: jax.Array) -> jax.Array:
        """users float32[B, H, D], items float32[n, D] → logits float32[B, n], the nearest interest counts."""
        return jnp.max(jnp.einsum("bhd,nd->bhn", users, items), axis=1) * jnp.exp(-self.log_temperature[...])
