"""How many parameters a user tower has, and one interest with as many as several (SUR-P, Mehta et al. 2023)."""

from __future__ import annotations

from math import prod

from flax import nnx

from offline.config import Train
from offline.features.fields import Fields
from offline.towers.hiformer_user import HiformerUserTower


def user_parameters(config: Train, like: Fields) -> int:
    """Numbers that training moves in a Hiformer user tower for features like these."""
    tower = nnx.eval_shape(lambda: HiformerUserTower(like, config, nnx.Rngs(0)))
    return sum(prod(value.shape) for _, value in nnx.to_flat_state(nnx.state(tower, nnx.Param)))


def single_interest(config: Train, like: Fields) -> Train:
    """The same with one interest, and behind it a projection as wide as it takes to have as many parameters."""
    single = config.model_copy(update={"interests": 1, "projection": 0})
    lacking = user_parameters(config, like) - user_parameters(single, like)
    width = config.dimension  # a hidden unit has 2 · width parameters and a bias, the way out `width` biases
    return single.model_copy(update={"projection": max(round((lacking - width) / (2 * width + 1)), 0)})
