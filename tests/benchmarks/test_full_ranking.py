import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks.data.task import Question
from benchmarks.full_ranking import measures, ranks
from offline.data.timelines import sort

SCORES = np.array([[5, 4, 3, 2, 1], [1, 1, 1, 1, 1], [0, 9, 0, 8, 7]], dtype=np.float32)
HISTORY = sort(
    np.array([0, 1, 2, 2], dtype=np.int32), np.array([0, 0, 1, 3], dtype=np.int32), np.arange(4, dtype=np.int64), 3
)
QUESTION = Question(HISTORY, np.array([2, 0, 1, 0], dtype=np.int32), np.array([4, 2, 3, 4], dtype=np.int32))


def scorer(users: NDArray[np.int32]) -> NDArray[np.float32]:
    return SCORES[users]


def test_a_rank_is_how_many_items_stand_before_it_and_ties_count_against() -> None:
    assert ranks(scorer, QUESTION, repeats=True).tolist() == [2, 2, 4, 4]


def test_without_repeats_what_a_user_had_stands_nowhere() -> None:
    assert ranks(scorer, QUESTION, repeats=False).tolist() == [0, 1, 3, 3]
    assert (SCORES[:, 0] >= 0).all()  # the scorer's own array is left alone


def test_measures_are_shares_of_pairs() -> None:
    found = measures(np.array([0, 4, 5, 60]), np.array([True, False, True, False]))
    assert found["HR@5"] == found["HR@5/head"] == 0.5
    assert found["HR@10"] == 0.75
    assert found["HR@10/head"] == 1
    assert found["HR@50/tail"] == 0.5
    assert found["NDCG@10"] == pytest.approx((1 + 1 / np.log2(6) + 1 / np.log2(7)) / 4)
    assert found["NDCG@10/tail"] == pytest.approx(1 / np.log2(6) / 2)
