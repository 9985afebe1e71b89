import numpy as np

from offline.export.onnx import feature_arrays, features_of
from offline.features.fields import Fields

WORDS, NUMBERS = np.ones((2, 3), dtype=np.int32), np.ones((2, 1), dtype=np.float32)


def test_arrays_by_name_are_features_again() -> None:
    whole = Fields((WORDS, WORDS + 1), NUMBERS, (NUMBERS + 2,))
    named = feature_arrays(whole)
    assert list(named) == ["words_0", "words_1", "vectors_0", "numbers"]
    again = features_of(named, whole, 2)
    assert again.words[1] is whole.words[1]
    assert again.vectors[0] is whole.vectors[0]
    assert again.numbers is NUMBERS


def test_what_is_empty_is_left_out() -> None:
    nothing = Fields((), NUMBERS[:, :0])
    assert feature_arrays(nothing) == {}
    assert features_of({}, nothing, 2).numbers.shape == (2, 0)
    assert features_of(feature_arrays(WORDS), WORDS, 2) is WORDS
