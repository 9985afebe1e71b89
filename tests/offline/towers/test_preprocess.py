import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from offline.features.fields import Fields
from offline.towers.embedding import EMBEDDING
from offline.towers.preprocess import Preprocess
from tests.offline.towers.models import filled, run

WORDS = (np.array([[3, 5], [7, 0]], np.int32), np.array([[2], [0]], np.int32))
NUMBERS = np.array([[0.5, -1.0, 2.0], [0.0, 0.0, 0.0]], np.float32)


def preprocess(like: Fields, dense_tokens: int = 2) -> Preprocess:
    return filled(lambda: Preprocess(like, dense_tokens, buckets=8, width=4, rngs=nnx.Rngs(0)))


def test_a_column_of_words_becomes_a_token_and_all_numbers_a_few() -> None:
    layer = preprocess(Fields(WORDS, NUMBERS))
    found = run(layer, Fields(WORDS, NUMBERS))
    assert found.shape == (2, layer.num_tokens, 4) == (2, 2 + 2, 4)
    assert layer.words is not None
    table = np.asarray(layer.words.embedding.embedding[...])
    assert np.allclose(found[0, :2], [(table[3] + table[5]) / 2, table[2]], atol=1e-6)
    assert np.allclose(found[1, :2], [table[7], np.zeros(4)], atol=1e-6)


def test_each_dense_token_depends_on_all_numbers_and_on_no_word() -> None:
    layer = preprocess(Fields(WORDS, NUMBERS))
    before = run(layer, Fields(WORDS, NUMBERS))
    for column in range(3):
        moved = NUMBERS.copy()
        moved[0, column] += 3
        after = run(layer, Fields(WORDS, moved))
        assert (after[0, 2:] != before[0, 2:]).any(axis=1).all()
        assert np.array_equal(after[0, :2], before[0, :2])
        assert np.array_equal(after[1], before[1])


@pytest.mark.parametrize("words", [(), WORDS])
@pytest.mark.parametrize("numbers", [0, 1])
def test_what_a_table_lacks_gives_no_token(words: tuple[np.ndarray, ...], numbers: int) -> None:
    fields = Fields(words, NUMBERS[:, :numbers])
    layer = preprocess(fields)
    assert run(layer, fields).shape == (2, len(words) + numbers, 4)  # never more dense tokens than numbers
    assert layer.num_tokens == len(words) + numbers
    assert jnp.isfinite(run(layer, fields)).all()


def test_each_vector_becomes_a_token_by_a_matrix_of_its_own() -> None:
    texts, images = np.array([[0.6, 0.8], [0.0, 0.0]], np.float32), np.array([[1.0, 0, 0], [0, 0, 1.0]], np.float32)
    fields = Fields(WORDS, NUMBERS, (texts, images))
    layer = preprocess(fields)
    found = run(layer, fields)
    assert found.shape == (2, layer.num_tokens, 4) == (2, 2 + 2 + 2, 4)
    for token, vectors, projection in zip((4, 5), fields.vectors, layer.vectors, strict=True):
        kernel, bias = (np.asarray(parameter[...])[0] for parameter in (projection.kernel, projection.bias))
        assert np.allclose(found[:, token], EMBEDDING * (vectors @ kernel + bias), atol=1e-6)
    assert not np.allclose(found[0, 4], found[1, 4], atol=1e-3)
