import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.decomposition import TruncatedSVD
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.preprocessing import normalize

from offline.text.tfidf import Tfidf

TEXTS = ["red lamp", "Red lamps", "blue mug", "blue mugs, blue", "green glass", "mug of glass"]
FITTED = Tfidf.fit(TEXTS, 4)


def cosines(first: list[str], second: list[str]) -> np.ndarray:
    return FITTED.encode(first) @ FITTED.encode(second).T


def test_equals_the_library_without_hashing() -> None:
    # Blanks around words, and pieces that cross none, are how scikit-learn's char_wb reads a text too.
    words = TfidfVectorizer(token_pattern=r"\w+", norm=None, sublinear_tf=True)
    pieces = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 4), norm=None, sublinear_tf=True)
    plain = [text.replace(",", "") for text in TEXTS]
    counted = np.hstack([part.fit_transform(plain).toarray() for part in (words, pieces)])
    names = [*words.get_feature_names_out(), *pieces.get_feature_names_out()]
    counted = counted[:, [name == name.strip() or name.strip() != name[1:-1] for name in names]]  # no word twice
    svd = TruncatedSVD(4, algorithm="arpack", random_state=0).fit(normalize(counted))
    expected = normalize(normalize(counted) @ svd.components_.T)
    found = FITTED.encode(TEXTS)
    assert np.allclose(found @ found.T, expected @ expected.T, atol=1e-3)


def test_alike_texts_are_near_and_forms_of_a_word_are_too() -> None:
    near = cosines(["a red lamp", "many mugs"], ["red lamps", "blue mug", "green glass"])
    assert near.argmax(axis=1).tolist() == [0, 1]


@given(st.lists(st.text(max_size=20), min_size=1, max_size=4))
def test_vectors_have_length_one_or_are_zero_and_do_not_depend_on_the_others(texts: list[str]) -> None:
    found = FITTED.encode(texts)
    lengths = np.linalg.norm(found, axis=1)
    assert found.dtype == np.float32
    assert np.all(np.isclose(lengths, 1, atol=1e-5) | (lengths == 0))
    for text, vector in zip(texts, found, strict=True):
        assert np.allclose(FITTED.encode([text])[0], vector, atol=1e-6)


def test_what_tells_nothing_is_zero() -> None:
    assert not FITTED.encode(["", " ,!"]).any()


def test_fewer_texts_than_dimensions_leave_the_rest_zero() -> None:
    found = Tfidf.fit(["red lamp", "blue mug"], 8).encode(["red", "mug"])
    assert found.shape == (2, 8)
    assert not found[:, 2:].any()
    assert found[:, :2].any()


def test_the_same_texts_give_the_same_encoder() -> None:
    again = Tfidf.fit(TEXTS, 4)
    assert np.array_equal(again.idf, FITTED.idf)
    assert np.array_equal(again.components, FITTED.components)
