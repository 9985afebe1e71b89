import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.data.timelines import PAD
from offline.features.fields import Fields
from offline.towers.hiformer_user import HiformerUserTower
from offline.towers.sphere import unit
from tests.offline.conftest import TRAIN
from tests.offline.towers.models import filled, normal, run

ITEMS = unit(normal(5, TRAIN.dimension))
HISTORY = jnp.pad(jnp.array([[0, 1], [0, 1], [2, PAD], [PAD, PAD]]), ((0, 0), (0, 10)), constant_values=PAD)
COUNTRY = Fields((np.array([[1], [2], [1], [1]], np.int32),), np.zeros((4, 0), np.float32))


NOTHING = Fields((), np.zeros((4, 0), np.float32))


def tower(interests: int, like: Fields) -> HiformerUserTower:
    config = TRAIN.model_copy(update={"tower": "hiformer", "interests": interests})
    return filled(lambda: HiformerUserTower(like, config, nnx.Rngs(0)))


@pytest.mark.parametrize("interests", [1, 3])
def test_gives_a_unit_vector_an_interest_from_history_and_features(interests: int) -> None:
    found = tower(interests, COUNTRY)
    vectors = run(found, ITEMS, HISTORY, COUNTRY)
    assert vectors.shape == (4, interests, TRAIN.dimension)
    assert np.allclose(jnp.linalg.norm(vectors, axis=2), 1, atol=1e-5)
    rows = vectors[:, 0]
    assert not np.allclose(rows[0], rows[1], atol=1e-3)  # another country
    assert not np.allclose(rows[0], rows[2], atol=1e-3)  # another history
    if interests > 1:
        assert not np.allclose(vectors[:, 0], vectors[:, 1], atol=1e-1)


def test_is_a_mixture_of_the_history_moved_by_what_all_say_together() -> None:
    found = tower(2, COUNTRY)
    mixtures = unit(run(found.history, ITEMS, HISTORY))
    assert not np.allclose(run(found, ITEMS, HISTORY, COUNTRY), mixtures, atol=1e-2)
    for parameter in (found.output.kernel, found.output.bias):
        parameter[...] = jnp.zeros(parameter.shape)
    assert np.allclose(run(found, ITEMS, HISTORY, COUNTRY), mixtures, atol=1e-5)


def test_nothing_known_of_users_is_enough() -> None:
    vectors = run(tower(1, NOTHING), ITEMS, HISTORY, NOTHING)
    assert np.allclose(vectors[0], vectors[1], atol=1e-6)
    assert jnp.isfinite(vectors).all()


def test_a_projection_behind_an_interest_is_a_network_of_its_own() -> None:
    config = TRAIN.model_copy(update={"tower": "hiformer", "interests": 1, "projection": 3})
    found = filled(lambda: HiformerUserTower(COUNTRY, config, nnx.Rngs(0)))
    moved = run(found, ITEMS, HISTORY, COUNTRY)
    assert found.outer is not None
    found.outer.kernel[...] = jnp.zeros((1, 3, TRAIN.dimension))
    found.outer.bias[...] = jnp.zeros((1, TRAIN.dimension))
    assert not np.allclose(run(found, ITEMS, HISTORY, COUNTRY), moved, atol=1e-3)
    found.inner = found.outer = None
    plain = run(found, ITEMS, HISTORY, COUNTRY)
    assert plain.shape == moved.shape
