import numpy as np
import pytest

from benchmarks import collaborative
from benchmarks.data import invented
from benchmarks.data.task import Task, leave_one_out
from offline.config import Synthetic


@pytest.fixture(scope="module")
def task() -> Task:
    settings = Synthetic(users=300, clusters=6, items_per_cluster=20, interests=1, steps=12, interest_power=0.0)
    return invented.load(settings)


def test_who_took_what_is_marked_once() -> None:
    sequences = [np.array(items, dtype=np.int32) for items in ([3, 3, 0, 1], [0, 1, 2])]
    matrix = collaborative.matrix(leave_one_out(sequences, 4, repeats=True).test.history, 4)
    assert matrix.toarray().tolist() == [[1, 0, 0, 1], [1, 1, 0, 0]]


def test_neighbours_and_factors_find_users_interests(task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collaborative, "GRID", ((1.0, 0.1),))
    by_chance = 20 / task.num_items
    for model in (collaborative.item_knn, collaborative.ials):
        assert model(task, 0)["HR@20"] > 2 * by_chance
