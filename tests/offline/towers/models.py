"""Models for tests, made and run without compiling every operation by itself, which takes JAX seconds."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

Model = TypeVar("Model", bound=nnx.Module)


def filled(build: Callable[[], Model]) -> Model:
    """A model whose parameters are all drawn anew by numpy, also those that begin as 0."""
    model = nnx.eval_shape(build)
    generator = np.random.default_rng(3)

    def draw(leaf: Any) -> jax.Array:
        return jnp.asarray(generator.normal(size=leaf.shape), dtype=jnp.float32)

    nnx.update(model, jax.tree.map(draw, nnx.state(model, nnx.Param)))
    return model


@nnx.jit
def run(model: Any, *arguments: Any) -> Any:
    """What a model makes of its arguments."""
    return model(*arguments)


def normal(*shape: int, seed: int = 7) -> jax.Array:
    """float32 of a shape, drawn by numpy."""
    return jnp.asarray(np.random.default_rng(seed).normal(size=shape), dtype=jnp.float32)
