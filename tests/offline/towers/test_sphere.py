import jax
import jax.numpy as jnp
import numpy as np

from offline.towers.sphere import unit


def test_vectors_get_length_one_and_keep_their_direction() -> None:
    assert np.allclose(unit(jnp.array([[3.0, 4.0], [0.0, -2.0]])), [[0.6, 0.8], [0.0, -1.0]], atol=1e-6)


def test_zero_stays_and_has_a_gradient() -> None:
    assert np.array_equal(unit(jnp.zeros(3)), np.zeros(3))
    assert np.isfinite(jax.grad(lambda vector: unit(vector).sum())(jnp.zeros(3))).all()
