import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.interactions.embeddings import EMPTY, Embeddings
from tests.offline.towers.models import normal, run

IDS = jnp.array([[1, 2, 0, 3], [0, 0, 1, EMPTY], [1, 1, EMPTY, EMPTY]])


def test_each_field_has_a_vocabulary_and_several_words_are_averaged() -> None:
    model = Embeddings((2, 3, 4), (1, 1, 2), 0, 0, 5, nnx.Rngs(0))
    found, table = run(model, IDS, jnp.zeros((3, 0))), np.asarray(model.table[...])
    assert found.shape == (3, model.tokens, 5)
    assert np.allclose(found[0], [table[1], table[2 + 2], (table[5 + 0] + table[5 + 3]) / 2])
    assert np.allclose(found[1], [table[0], table[2], table[5 + 1]])
    assert np.allclose(found[2], [table[1], table[3], np.zeros(5)])


def test_numbers_make_few_tokens() -> None:
    model = Embeddings((2, 3), (1, 1), 6, 2, 5, nnx.Rngs(0))
    numbers = normal(3, 6)
    found = run(model, IDS[:, :2], numbers)
    assert found.shape == (3, model.tokens, 5) == (3, 4, 5)
    inner, outer = model.inner, model.outer
    assert inner is not None
    assert outer is not None
    hidden = np.maximum(np.asarray(numbers) @ inner.kernel[...] + inner.bias[...], 0)  # type: ignore[index]
    dense = hidden @ outer.kernel[...] + outer.bias[...]  # type: ignore[index]
    assert np.allclose(found[:, 2:].reshape(3, -1), dense, atol=1e-5)
