import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.batches import UNKNOWN
from offline.towers.item import ItemTower

IDS, TOKENS = jnp.array([1, 2, UNKNOWN]), jnp.array([[3, 0], [3, 0], [3, 0]])


def tower(id_dropout: float) -> ItemTower:
    return ItemTower(num_items=2, buckets=8, dimension=4, id_dropout=id_dropout, rngs=nnx.Rngs(0))


def test_gives_unit_vectors_that_know_the_id() -> None:
    vectors = tower(0.5)(IDS, TOKENS)
    assert np.allclose(jnp.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert not np.allclose(vectors[0], vectors[1])


def test_in_training_a_dropped_id_is_an_unknown_one() -> None:
    vectors = tower(1.0)(IDS, TOKENS, jax.random.key(0))
    assert np.allclose(vectors[0], vectors[2])
    assert np.allclose(vectors[1], vectors[2])


def test_without_a_key_nothing_is_dropped() -> None:
    assert np.array_equal(tower(0.9)(IDS, TOKENS), tower(0.0)(IDS, TOKENS, jax.random.key(0)))
