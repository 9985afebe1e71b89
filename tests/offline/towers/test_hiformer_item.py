import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.batches import UNKNOWN
from offline.features.fields import Fields
from offline.towers.embedding import EMBEDDING
from offline.towers.hiformer_item import HiformerItemTower
from offline.towers.sphere import unit
from tests.offline.conftest import TRAIN
from tests.offline.towers.models import filled, run

IDS = jnp.array([1, 2, UNKNOWN])
FIELDS = Fields((np.array([[3], [3], [3]], np.int32),), np.array([[1.0], [1.0], [1.0]], np.float32))


def tower(id_dropout: float = 0.5) -> HiformerItemTower:
    config = TRAIN.model_copy(update={"id_dropout": id_dropout})
    return filled(lambda: HiformerItemTower(2, FIELDS, config, nnx.Rngs(0)))


def test_gives_unit_vectors_that_know_the_id_and_the_features() -> None:
    found = tower()
    vectors = run(found, IDS, FIELDS)
    assert vectors.shape == (3, TRAIN.dimension)
    assert np.allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1], atol=1e-3)
    for other in (FIELDS._replace(numbers=-FIELDS.numbers), FIELDS._replace(words=(FIELDS.words[0] + 1,))):
        assert not np.allclose(run(found, IDS, other), vectors, atol=1e-3)


def test_is_the_sum_of_what_id_and_features_say_moved_by_what_they_say_together() -> None:
    found = tower()
    alone = unit(found.embedding(IDS) + found.features(FIELDS).sum(axis=1))[:2]
    moved = run(found, IDS, FIELDS)[:2] - alone
    assert not np.allclose(moved[0], moved[1], atol=1e-2)
    for parameter in (found.output.kernel, found.output.bias):
        parameter[...] = jnp.zeros(parameter.shape)
    assert np.allclose(run(found, IDS, FIELDS)[:2], alone, atol=1e-5)


def test_in_training_a_dropped_id_is_an_unknown_one() -> None:
    vectors = run(tower(1.0), IDS, FIELDS, jax.random.key(0))
    assert np.allclose(vectors[0], vectors[2])
    assert np.allclose(vectors[1], vectors[2])


def test_without_a_key_nothing_is_dropped() -> None:
    assert np.array_equal(run(tower(0.9), IDS, FIELDS), run(tower(0.0), IDS, FIELDS, jax.random.key(0)))


def test_without_an_id_there_is_what_one_would_expect_of_the_features() -> None:
    found = tower()
    there = jnp.array([True, True, False])
    assert float(found.surprise(IDS, FIELDS, there)) > 0.1
    assert found.expected is not None
    for parameter, value in ((found.expected.kernel, 0.0), (found.expected.bias, found.embedding(IDS)[:1] / EMBEDDING)):
        parameter[...] = jnp.broadcast_to(value, parameter.shape)
    first, _, fresh = run(found, IDS, FIELDS)
    assert np.allclose(fresh, first, atol=1e-5)  # it has the first one's features
    expected = jnp.sum((found.embedding(IDS)[0] - found.embedding(IDS)[1]) ** 2) / 2
    assert float(found.surprise(IDS, FIELDS, there)) == pytest.approx(float(expected), rel=1e-4)


def test_surprise_moves_only_what_expects() -> None:
    gradients = nnx.grad(lambda found: found.surprise(IDS, FIELDS, jnp.ones(3, bool)))(tower())
    moved = {path[0] for path, value in nnx.to_flat_state(gradients) if np.asarray(value[...]).any()}
    assert moved == {"expected"}


def test_without_features_every_fresh_item_is_expected_alike() -> None:
    nothing = Fields((), np.zeros((3, 0), np.float32))
    found = filled(lambda: HiformerItemTower(2, nothing, TRAIN, nnx.Rngs(0)))
    vectors = run(found, jnp.full(3, UNKNOWN), nothing)
    assert np.isfinite(vectors).all()
    assert np.allclose(vectors, vectors[0])


def test_an_id_alone_is_enough() -> None:
    nothing = Fields((), np.zeros((3, 0), np.float32))
    found = filled(lambda: HiformerItemTower(2, nothing, TRAIN, nnx.Rngs(0)))
    assert jnp.isfinite(run(found, IDS, nothing)).all()
    # Checkpoints refuse arrays without an entry.
    assert all(value[...].size for _, value in nnx.to_flat_state(nnx.state(found, nnx.Param)))
