"""The two towers and the temperature of the softmax between them."""

from __future__ import annotations

from functools import reduce
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from flax import nnx

from offline.config import Train
from offline.towers.hiformer_item import HiformerItemTower
from offline.towers.hiformer_user import HiformerUserTower
from offline.towers.item import ItemTower
from offline.towers.user import UserTower


class Item(Protocol):
    """An item tower: ids int32[n] and features of n rows → float32[n, D] of length 1; with a `key` it trains."""

    def __call__(self, ids: jax.Array, features: Any, /, key: jax.Array | None = None) -> jax.Array:
        """See the class."""
        ...

    def surprise(self, ids: jax.Array, features: Any, there: jax.Array, /) -> jax.Array:
        """What the loss adds for ids that their features, bool[n] of which count, do not make one expect."""
        ...


class User(Protocol):
    """A user tower: items float32[S, D], histories int32[B, N] and features of B rows → float32[B, H, D], length 1."""

    def __call__(self, items: jax.Array, history: jax.Array, features: Any, /) -> jax.Array:
        """See the class."""
        ...

    def of(self, history: jax.Array, features: Any, /) -> jax.Array:
        """The same of a history's own vectors, float32[B, N, D]; rows of zeros past the end."""
        ...


class TwoTower(nnx.Module):
    """p(item | user) ∝ exp(max_h ⟨user_h, item⟩ / τ), with τ learned.

    Args:
        num_items: J.
        items, users: features of some rows, as `config.tower` reads them; their shapes decide the towers'.
        config: which towers, and their sizes.
        seed: of the first parameters.
    """

    item: Item
    user: User

    def __init__(self, num_items: int, items: Any, users: Any, config: Train, seed: int) -> None:
        rngs = nnx.Rngs(seed)
        if config.tower == "hiformer":
            self.item = HiformerItemTower(num_items, items, config, rngs)
            self.user = HiformerUserTower(users, config, rngs)
        else:
            self.item = ItemTower(num_items, config.feature_buckets, config.dimension, config.id_dropout, rngs)
            self.user = UserTower(config.history_length, config.feature_buckets, config.dimension, config.hidden, rngs)
        self.disagreement = config.disagreement
        self.log_temperature = nnx.Param(jnp.log(jnp.float32(config.temperature)))

    def scores(self, users: jax.Array, items: jax.Array) -> jax.Array:
        """users float32[B, H, D], items float32[n, D] → logits float32[B, n], the nearest interest counts."""
        # A product for each interest: a third of the time of one for all and a maximum over its axis.
        nearest = reduce(jnp.maximum, (users[:, interest] @ items.T for interest in range(users.shape[1])))
        return nearest * jnp.exp(-self.log_temperature[...])

    def penalty(self) -> jax.Array:
        """What the loss adds for interests that look for the same; 0 for one interest."""
        if self.disagreement and isinstance(self.user, HiformerUserTower):
            return self.disagreement * self.user.history.disagreement()
        return jnp.zeros(())
