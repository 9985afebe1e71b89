from typing import Any

import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx

from bandit.models import ITEM_TOWER, USER_TOWER
from offline.batches import UNKNOWN
from offline.config import Train
from offline.data.timelines import PAD
from offline.export import towers
from offline.export.onnx import feature_arrays
from offline.features.fields import Fields
from offline.towers.two_tower import TwoTower
from offline.training.features import Features
from tests.offline.conftest import INTERESTS, TRAIN
from tests.offline.towers.models import filled, normal, run

J, U, D = 9, 4, TRAIN.dimension
RNG = np.random.default_rng(0)
SHORT = np.array([[PAD] * 3, [4, PAD, PAD], [8, 0, PAD], [1, 2, 3]])
HISTORY = np.pad(SHORT, ((0, 0), (0, TRAIN.history_length - 3)), constant_values=PAD)


def words(rows: int, size: int) -> np.ndarray:
    return RNG.integers(TRAIN.feature_buckets, size=(rows, size), dtype=np.int32)


def numbers(rows: int, size: int) -> np.ndarray:
    return RNG.normal(size=(rows, size)).astype(np.float32)


FIELDS = Features(
    Fields((words(J, 3), words(J, 1)), numbers(J, 2), (numbers(J, 5),)), Fields((words(U, 2),), numbers(U, 0))
)
BAGS = Features(words(J, 3), words(U, 2))


@pytest.fixture(scope="module", params=[(TRAIN, BAGS), (INTERESTS, FIELDS)], ids=["two_tower", "hiformer"])
def exported(request: pytest.FixtureRequest) -> tuple[TwoTower, Features, dict[str, bytes]]:
    config: Train
    config, described = request.param
    model = filled(lambda: TwoTower(J, described.items, described.users, config, 0))
    return model, described, towers.models(model, described, config)


def answer(model: bytes, inputs: dict[str, Any]) -> Any:
    (found,) = onnxruntime.InferenceSession(model).run(None, inputs)
    return found


@pytest.mark.parametrize("length", [3, 7], ids=["as long as the longest", "longer"])
def test_the_user_tower_equals_jax_for_histories_of_any_length(
    exported: tuple[TwoTower, Features, dict[str, bytes]], length: int
) -> None:
    model, described, models = exported
    items = np.asarray(normal(J, D))
    history = np.zeros((U, length, D), dtype=np.float32)
    history[:, :3] = np.where((SHORT != PAD)[..., None], items[SHORT], 0)
    found = answer(models[USER_TOWER], {"history": history, **feature_arrays(described.users)})
    expected = run(model.user, jnp.asarray(items), jnp.asarray(HISTORY), described.users)
    assert np.abs(found - expected).max() < 1e-5
    one = {name: array[1:2] for name, array in feature_arrays(described.users).items()}
    assert np.abs(answer(models[USER_TOWER], {"history": history[1:2, :1], **one}) - expected[1:2]).max() < 1e-5


def test_the_item_tower_equals_jax_for_items_without_an_id(
    exported: tuple[TwoTower, Features, dict[str, bytes]],
) -> None:
    model, described, models = exported
    found = answer(models[ITEM_TOWER], feature_arrays(described.items))
    expected = run(model.item, jnp.full(J, UNKNOWN), described.items)
    assert np.abs(found - expected).max() < 1e-5
    assert nnx.state(model.item, nnx.Param)["embedding"]["embedding"][...].shape[0] == J + 1  # the model is as it was
