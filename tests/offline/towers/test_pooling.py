import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.data.timelines import PAD
from offline.towers.pooling import HistoryPooling
from tests.offline.towers.models import filled, normal, run

ITEMS = normal(6, 4)
HISTORY = jnp.array([[0, 1, 2], [5, PAD, PAD], [3, 3, 0], [PAD, PAD, PAD]])


def pooling(tokens: int = 2) -> HistoryPooling:
    return filled(lambda: HistoryPooling(length=3, tokens=tokens, dimension=4, rngs=nnx.Rngs(0)))


def test_mixes_the_items_that_are_there_by_what_each_query_looks_for_and_by_place() -> None:
    found = pooling()
    mixtures = run(found, ITEMS, HISTORY)
    items, queries, places = map(np.asarray, (ITEMS, found.queries[...], found.places[...]))
    for row, history in enumerate(HISTORY[:3].tolist()):
        there = [(place, item) for place, item in enumerate(history) if item != PAD]
        for token in range(2):
            wanted = [queries[token] @ items[item] + places[place, token] for place, item in there]
            weights = np.exp(wanted) / np.exp(wanted).sum()
            expected = sum(w * items[item] for w, (_, item) in zip(weights, there, strict=True))
            assert np.allclose(mixtures[row, token], expected, atol=1e-5)


def test_the_items_own_vectors_give_the_same() -> None:
    found = pooling()
    vectors = jnp.where((HISTORY != PAD)[..., None], ITEMS[HISTORY], 0)
    assert np.allclose(found.of(vectors), run(found, ITEMS, HISTORY), atol=1e-5)


def test_an_empty_history_is_learned() -> None:
    found = pooling()
    assert np.allclose(run(found, ITEMS, HISTORY)[3], found.empty[...])


def test_equal_places_make_the_order_of_a_history_irrelevant() -> None:
    found = pooling()
    found.places[...] = jnp.zeros((3, 2))
    assert np.allclose(run(found, ITEMS, HISTORY[:1]), run(found, ITEMS, HISTORY[:1, ::-1]), atol=1e-5)


def test_disagreement_is_the_cosine_of_each_pair_and_turns_queries_only() -> None:
    found = pooling(tokens=3)
    unit = np.asarray(found.queries[...]) / np.linalg.norm(found.queries[...], axis=1, keepdims=True)
    expected = sum(unit[i] @ unit[j] for i in range(3) for j in range(3) if i != j)
    assert float(found.disagreement()) == pytest.approx(float(expected), abs=1e-5)
    gradient = nnx.grad(lambda model: model.disagreement())(found).queries[...]
    others = unit.sum(axis=0) - unit
    lengths = np.linalg.norm(found.queries[...], axis=1, keepdims=True)
    assert np.allclose(gradient, 2 * others / lengths, atol=1e-5)
    assert float(pooling(tokens=1).disagreement()) == pytest.approx(0, abs=1e-6)
