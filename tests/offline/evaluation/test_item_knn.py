import numpy as np
import pytest

from offline.data import timelines as tl
from offline.evaluation.item_knn import ItemKnn


def taken() -> tl.Timelines:
    """Users take {0, 1}, {0, 1, 2}, {2, 3}; the first takes item 0 twice."""
    users = np.array([0, 0, 0, 1, 1, 1, 2, 2], dtype=np.int32)
    items = np.array([0, 0, 1, 0, 1, 2, 2, 3], dtype=np.int32)
    return tl.sort(users, items, np.arange(8, dtype=np.int64), num_users=3)


def test_scores_sum_cosines_to_what_the_user_took() -> None:
    found = ItemKnn(taken(), num_items=5).scores(np.array([0, 2], dtype=np.int32))
    half, root = 0.5, 1 / np.sqrt(2)
    # cos(0, 1) = 1, cos(0, 2) = cos(1, 2) = 1/2, cos(2, 3) = 1/√2, and each with itself 1
    assert found[0] == pytest.approx([2, 2, 2 * half, 0, 0])
    assert found[1] == pytest.approx([half, half, 1 + root, 1 + root, 0])


def test_keeps_the_nearest_neighbours_alone() -> None:
    found = ItemKnn(taken(), num_items=5, neighbours=2).scores(np.array([2], dtype=np.int32))
    assert found[0] == pytest.approx([0, 0, 1 + 1 / np.sqrt(2), 1 + 1 / np.sqrt(2), 0])
