"""Processes: one training on all devices of one process or of several, on one machine or many (`jax.distributed`).

Every process runs the same program on the same data and holds all parameters. Of each batch a device computes its
share: the visits and the items are cut along the one axis of a mesh of all devices, and XLA puts in what has to be
exchanged (the items' vectors, the sums of gradients). So the softmax is over the whole batch's items, and how many
processes there are changes nothing but the order of sums. What is written, process 0 writes.
"""

from __future__ import annotations

from functools import cache
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from offline.errors import ConfigError

Tree = TypeVar("Tree")

_AXIS = "data"


def join(coordinator: str, processes: int, process: int) -> None:
    """Become one of several processes, and wait for the others; before anything else is done with JAX.

    Args:
        coordinator: HOST:PORT, of process 0, a free port there.
        processes: how many there are.
        process: which this one is, from 0.

    Raises:
        ConfigError: the numbers contradict each other, or the others do not come.
    """
    if not 0 <= process < processes:
        raise ConfigError(f"--process {process}: {processes} processes are numbered 0 to {processes - 1}")
    try:
        jax.distributed.initialize(coordinator, processes, process)
    except (RuntimeError, ValueError) as error:
        raise ConfigError(
            f"process {process} of {processes} does not reach the others at {coordinator}: start all of them, with one "
            f"--coordinator (a host and a free port of process 0) and each with its own --process ({error})"
        ) from error


def leads() -> bool:
    """Whether this is process 0, which alone writes and tells."""
    return bool(jax.process_index() == 0)


def agree(number: float) -> float:
    """What process 0 says; all wait for it."""
    if jax.process_count() == 1:
        return number
    words = np.frombuffer(np.float64(number).tobytes(), np.uint32)  # JAX would round a float64
    said = np.asarray(multihost_utils.broadcast_one_to_all(words), dtype=np.uint32)
    return float(np.frombuffer(said.tobytes(), np.float64)[0])


def divide(visits: int) -> None:
    """Check that so many visits a batch can be cut into equal shares.

    Raises:
        ConfigError: they cannot.
    """
    if visits % jax.device_count():
        raise ConfigError(
            f"a batch of {visits} visits cannot be shared by {jax.device_count()} devices: set train.visits_per_batch "
            "to a multiple of them, no greater than the number of visits"
        )


def spread(module: nnx.Module) -> None:
    """Put a module's arrays on all devices of all processes, which hold the same."""
    if jax.device_count() > 1:
        nnx.update(module, everywhere(nnx.state(module)))


def everywhere(tree: Any) -> Any:
    """Arrays that all processes have, on all devices."""
    return tree if jax.device_count() == 1 else jax.tree.map(lambda array: _placed(array, _sharding()), tree)


def shared(tree: Any) -> Any:
    """Arrays that all processes have, each device with its share of the rows; whole where they cannot be cut."""
    if jax.device_count() == 1:
        return tree

    def placed(array: Any) -> jax.Array:
        cut = np.ndim(array) > 0 and len(array) % jax.device_count() == 0
        return _placed(array, _sharding(_AXIS) if cut else _sharding())

    return jax.tree.map(placed, tree)


def gathered(tree: Tree) -> Tree:
    """Inside what is compiled: from here on every device has all rows."""
    if jax.device_count() == 1:
        return tree
    whole: Tree = jax.lax.with_sharding_constraint(tree, _sharding())  # type: ignore[no-untyped-call]
    return whole


@cache
def _sharding(*axes: str) -> NamedSharding:
    return NamedSharding(Mesh(np.array(jax.devices()), (_AXIS,)), PartitionSpec(*axes))  # type: ignore[no-untyped-call]


def _placed(array: Any, sharding: NamedSharding) -> jax.Array:
    if isinstance(array, jax.Array):
        if len(array.sharding.device_set) == jax.device_count():
            return array
        if jnp.issubdtype(array.dtype, jax.dtypes.prng_key):
            key: jax.Array = jax.random.wrap_key_data(_placed(jax.random.key_data(array), sharding))
            return key
    whole = np.asarray(array)
    return jax.make_array_from_callback(whole.shape, sharding, lambda index: whole[index])
