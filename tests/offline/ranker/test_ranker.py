from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import pytest
from flax import nnx

from bandit.models import RANKER_ITEM, RANKER_USER
from offline.export import ranker as export
from offline.export.onnx import feature_arrays
from offline.features.fields import Fields
from offline.ranker.known import Known
from offline.ranker.ranker import Ranker
from tests.offline.conftest import RANK
from tests.offline.towers.models import filled, run

J, U, D, BUCKETS = 12, 3, 5, 64
RNG = np.random.default_rng(0)


def words(rows: int, size: int) -> np.ndarray:
    return RNG.integers(BUCKETS, size=(rows, size), dtype=np.int32)


def numbers(rows: int, size: int) -> np.ndarray:
    return RNG.normal(size=(rows, size)).astype(np.float32)


KNOWN = Known(
    np.array([*range(1, J), 0], dtype=np.int32),
    np.concatenate([numbers(J, D), np.zeros((1, D), np.float32)]),
    Fields((words(J, 3),), numbers(J, 2), (numbers(J, 4),)),
    Fields((words(U, 2),), numbers(U, 0)),
)
USERS = np.arange(U, dtype=np.int32)
HISTORY = np.array([[-1, -1, -1], [3, -1, -1], [11, 4, 5]], dtype=np.int32)
CANDIDATES = np.array([[0, 1, 2, 3], [3, 11, 5, 6], [11, 4, 8, 9]], dtype=np.int32)


@pytest.fixture(scope="module")
def model() -> Ranker:
    return filled(lambda: Ranker(J, D, BUCKETS, KNOWN.items, KNOWN.users, RANK, nnx.Rngs(0)))


@pytest.fixture(scope="module")
def whole(model: Ranker) -> np.ndarray:
    """The logits by the un-split layer, every token of every pair at once."""

    @nnx.jit
    def unsplit(model: Ranker, history: Any, users: Any, candidates: Any, items: Any) -> jax.Array:
        pairs, beside = model.item_tokens(model.user(history, users), candidates, items)
        of_user = jnp.repeat(model.user_tokens(users), CANDIDATES.shape[1], axis=0)
        return beside + model.output(model.layer(jnp.concatenate([of_user, pairs], axis=1))).reshape(beside.shape)

    return np.asarray(unsplit(model, *arguments(HISTORY)))


def arguments(history: np.ndarray) -> tuple[Any, ...]:
    found = KNOWN.some(history), KNOWN.user_fields(USERS), KNOWN.some(CANDIDATES), KNOWN.item_fields(CANDIDATES)
    return tuple(jax.tree.map(jnp.asarray, part) for part in found)


def test_the_halves_equal_the_whole(model: Ranker, whole: np.ndarray) -> None:
    assert whole.shape == CANDIDATES.shape
    assert np.abs(run(model, *arguments(HISTORY)) - whole).max() < 1e-5


def test_history_and_user_count(model: Ranker, whole: np.ndarray) -> None:
    assert np.abs(run(model, *arguments(HISTORY[[1, 2, 0]])) - whole).min() > 1e-4


def test_the_exported_halves_equal_the_whole(model: Ranker, whole: np.ndarray) -> None:
    models = export.models(model, KNOWN)
    user, item = (onnxruntime.InferenceSession(models[name]) for name in (RANKER_USER, RANKER_ITEM))
    for row, expected in enumerate(whole):
        size = max(1, int((HISTORY[row] >= 0).sum()))
        past, shown = KNOWN.some(HISTORY[row : row + 1, :size]), KNOWN.some(CANDIDATES[row : row + 1])
        history = {"history_ids": past.ids[0], "history_vectors": past.vectors[0]}
        half = user.run(None, history | feature_arrays(KNOWN.user_fields(USERS[row : row + 1])))
        candidates = {"ids": shown.ids[0], "vectors": shown.vectors[0]}
        features = feature_arrays(KNOWN.item_fields(CANDIDATES[row : row + 1]))
        (found,) = item.run(None, {**dict(zip(export.HALF, half, strict=True)), **history, **candidates, **features})
        assert np.abs(found - expected).max() < 1e-5
