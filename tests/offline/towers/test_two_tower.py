import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.features.fields import Fields
from offline.towers.hiformer_user import HiformerUserTower
from offline.towers.two_tower import TwoTower
from offline.towers.user import UserTower
from tests.offline.conftest import INTERESTS, TRAIN
from tests.offline.towers.models import filled


def plain(seed: int = 0) -> TwoTower:
    return TwoTower(3, np.ones((3, 1), np.int32), np.ones((2, 1), np.int32), TRAIN, seed)


def interested(**options: object) -> TwoTower:
    features = Fields((np.ones((3, 1), np.int32),), np.zeros((3, 0), np.float32))
    config = INTERESTS.model_copy(update=options)
    return filled(lambda: TwoTower(3, features, features, config, 0))


def test_scores_are_inner_products_over_the_temperature() -> None:
    users = jnp.array([[[1.0, 0.0]], [[0.6, 0.8]]])
    scores = plain().scores(users, jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    assert np.allclose(scores, np.array([[1.0, 0.0], [0.6, 0.8]]) / TRAIN.temperature, rtol=1e-5)


def test_of_several_interests_the_nearest_counts() -> None:
    users = jnp.array([[[1.0, 0.0], [0.0, 1.0]]])
    scores = plain().scores(users, jnp.array([[1.0, 0.0], [0.0, 1.0], [-1.0, -1.0]]))
    assert np.allclose(scores, np.array([[1.0, 1.0, -1.0]]) / TRAIN.temperature, rtol=1e-5)


def test_the_seed_decides_the_beginning() -> None:
    one, same, other = (nnx.to_flat_state(nnx.state(plain(seed), nnx.Param)) for seed in (1, 1, 2))
    assert all(np.array_equal(a[...], b[...]) for (_, a), (_, b) in zip(one, same, strict=True))
    assert not all(np.array_equal(a[...], b[...]) for (_, a), (_, b) in zip(one, other, strict=True))


def test_the_configuration_chooses_the_towers() -> None:
    assert isinstance(plain().user, UserTower)
    assert isinstance(interested().user, HiformerUserTower)


def test_interests_that_look_for_the_same_are_penalised_if_asked() -> None:
    assert float(plain().penalty()) == float(interested(disagreement=0.0).penalty()) == 0
    model = interested(disagreement=3.0)
    assert isinstance(model.user, HiformerUserTower)
    assert float(model.penalty()) == pytest.approx(3 * float(model.user.history.disagreement()))
