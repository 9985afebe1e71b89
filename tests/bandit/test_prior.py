import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from bandit.prior import BASE_RATE, from_softmax


def test_an_edge_of_mean_probability_gets_the_base_rate() -> None:
    indptr = np.array([0, 2, 2, 4], dtype=np.int64)
    probability = from_softmax(np.array([0.5, 1.5, 0.2, 0.2]), indptr)
    assert probability.dtype == np.float32
    assert probability.tolist() == pytest.approx([BASE_RATE / 2, BASE_RATE * 1.5, BASE_RATE, BASE_RATE])


def test_probabilities_are_clipped() -> None:
    indptr = np.array([0, 100, 103], dtype=np.int64)
    softmax = np.zeros(103)
    softmax[0] = 1
    assert from_softmax(softmax, indptr)[:2].tolist() == pytest.approx([0.5, 0.005])
    assert from_softmax(softmax, indptr)[100:].tolist() == pytest.approx([0.005] * 3)


@given(arrays(np.float64, 12, elements=st.floats(0, 1)), st.integers(0, 12))
def test_every_edge_is_a_probability(softmax: NDArray[np.float64], split: int) -> None:
    probability = from_softmax(softmax, np.array([0, split, 12], dtype=np.int64))
    assert ((probability >= np.float32(0.005)) & (probability <= np.float32(0.5))).all()
