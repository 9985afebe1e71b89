import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.interactions.dropout import Dropout
from tests.offline.towers.models import run


def test_drops_at_the_rate_keeps_the_mean_and_differs_each_time() -> None:
    layer, ones = Dropout(0.25, nnx.Rngs(0)), jnp.ones((400, 100))
    first, second = (np.asarray(run(layer, ones)) for _ in range(2))
    assert (first == 0).mean() == pytest.approx(0.25, abs=0.02)
    assert np.allclose(first[first > 0], 4 / 3)
    assert (first != second).any()


def test_does_nothing_in_use_or_at_rate_0() -> None:
    ones = jnp.ones((4, 10))
    layer = Dropout(0.5, nnx.Rngs(0))
    layer.eval()  # type: ignore[no-untyped-call]
    assert (run(layer, ones) == 1).all()
    assert (run(Dropout(0.0, nnx.Rngs(0)), ones) == 1).all()
