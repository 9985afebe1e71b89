import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.batches import UNKNOWN
from offline.features.fields import Fields
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
    alone = unit(found.embedding(IDS) + found.features(FIELDS).sum(axis=1))
    moved = run(found, IDS, FIELDS) - alone
    assert not np.allclose(moved[0], moved[1], atol=1e-2)
    for parameter in (found.output.kernel, found.output.bias):
        parameter[...] = jnp.zeros(parameter.shape)
    assert np.allclose(run(found, IDS, FIELDS), alone, atol=1e-5)


def test_in_training_a_dropped_id_is_an_unknown_one() -> None:
    vectors = run(tower(1.0), IDS, FIELDS, jax.random.key(0))
    assert np.allclose(vectors[0], vectors[2])
    assert np.allclose(vectors[1], vectors[2])


def test_without_a_key_nothing_is_dropped() -> None:
    assert np.array_equal(run(tower(0.9), IDS, FIELDS), run(tower(0.0), IDS, FIELDS, jax.random.key(0)))
