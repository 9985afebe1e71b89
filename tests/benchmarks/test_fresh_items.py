from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from bandit.context import Context
from benchmarks import fresh_items
from benchmarks.fresh_items import RANDOM, Shop, choice, held_out, known_recall, place, without
from benchmarks.trials import Row
from offline.clustering import Clusters
from offline.data.dataset import Dataset
from offline.data.split import Split
from offline.data.timelines import Timelines, sort
from offline.vectors import Vectors

NOW = datetime(2024, 1, 1, tzinfo=UTC)
AXES = np.eye(4, dtype=np.float32)


def taken(pairs: list[tuple[int, int]], users: int = 40) -> Timelines:
    rows = np.array(pairs, dtype=np.int32).reshape(-1, 2)
    return sort(rows[:, 0], rows[:, 1], np.arange(len(rows)), users)


def shop(train: list[tuple[int, int]], test: list[tuple[int, int]], items: int) -> Shop:
    def ids(name: str, number: int) -> pa.Table:
        return pa.table({name: [str(place) for place in range(number)]})

    data = Dataset(ids("item_id", items), ids("user_id", 40), taken(train), Split(validation_start=NOW, test_start=NOW))
    return Shop(data, taken(test))


def test_only_items_with_enough_buyers_before_and_after_are_held_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_items, "SHARE", 0.5)
    before = [(user, item) for item in range(5) for user in range(20)] + [(0, 5)] * 30
    after = [(user, item) for item in (0, 1, 2, 3, 5) for user in range(5)] + [(0, 4)] * 9
    found = [held_out(shop(before, after, 6), seed) for seed in range(20)]
    assert all(len(items) == 2 for items in found)
    assert set(np.concatenate(found)) == {0, 1, 2, 3}
    assert np.array_equal(found[3], held_out(shop(before, after, 6), 3))


def test_what_is_held_out_is_in_no_timeline() -> None:
    left = without(taken([(0, 1), (0, 2), (1, 2), (1, 3)]), np.array([2]))
    assert list(zip(left.users.tolist(), left.items.tolist(), strict=True)) == [(0, 1), (1, 3)]
    assert left.starts[:3].tolist() == [0, 1, 2]


def clusters() -> Clusters:
    """Four clusters along the axes; user c is in cluster c alone, the second place of the context is empty."""
    members = np.stack([np.arange(4), (np.arange(4) + 1) % 4], axis=1).astype(np.int32)
    weights = np.tile(np.array([1 << 15, 0], np.int32), (4, 1))
    return Clusters(AXES, 1.0, members, weights, Context(members[0], weights[0]))


def test_an_item_where_its_buyers_are_is_placed_well() -> None:
    vectors = Vectors(AXES[:, None], np.concatenate([AXES, AXES[:1]]), 1.0)
    here, elsewhere = (place(vectors, clusters(), np.array([4]), [np.array([user])]) for user in (0, 3))
    assert (here["rank"], here["own rank"]) == (0, 0)
    assert elsewhere["rank"] == 1
    assert (here["recall"], here["edges"]) == (1, 4)  # five items are fewer than a row's width, so all are reached
    monkey = place(vectors, clusters(), np.array([4]), [np.array([0])], np.random.default_rng(0))
    assert monkey["edges"] == 4


def test_edges_and_the_nearest_clusters_must_be_the_buyers_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fresh_items, "NEAREST", 1)
    monkeypatch.setattr(
        fresh_items, "BUILD", fresh_items.BUILD.model_copy(update={"edges_per_cluster": 1, "clusters_per_item": 1})
    )
    vectors = Vectors(AXES[:, None], np.concatenate([AXES, 0.5 * AXES[:1]]), 1.0)
    buyers = [np.array([0, 3])]
    found = place(vectors, clusters(), np.array([4]), buyers)
    assert (found["edges"], found["recall"], found["recall/nearest 10"]) == (1, 0.5, 0.5)


def test_what_lies_near_everybody_is_not_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    # Every item leans to cluster 0; the fresh one a little less, and so it is told apart by cluster 1.
    items = np.array([[1, 0, 0, 0]] * 9 + [[0.9, 0.1, 0, 0]], dtype=np.float32)
    found = place(Vectors(AXES[:, None], items, 1.0), clusters(), np.array([9]), [np.array([1])])
    assert found["rank"] == pytest.approx(1 / 3)
    assert found["own rank"] == 0


def test_choice_is_the_share_of_pairs_in_order() -> None:
    users = np.array([[[1.0, 0.0]], [[0.0, 1.0]]], dtype=np.float32)
    items = np.array([[0.9, 0.0], [0.5, 0.5], [0.1, 0.9]], dtype=np.float32)
    vectors = Vectors(users, items, 1.0)
    everything = np.arange(3)
    none = np.zeros(0, dtype=np.int64)
    assert choice(vectors, everything, [np.array([0]), none, np.array([1])]) == 1
    assert choice(vectors, everything, [np.array([1]), none, np.array([0])]) == 0
    assert choice(vectors, everything, [none, np.array([0, 1]), none]) == 0.5


def test_recall_of_known_items_looks_past_the_held_out_ones() -> None:
    train = [(user, item) for item in range(200) for user in range(1 + (item < 40))]
    world = shop(train, [(0, 3), (0, 150), (0, 199)], 200)
    items = np.zeros((200, 2), dtype=np.float32)
    items[[3, 199], 0] = 1
    items[150, 0] = -1
    vectors = Vectors(np.tile(np.array([1.0, 0.0], np.float32), (40, 1, 1)), items, 1.0)
    assert known_recall(world, vectors, np.array([199])) == {"recall@50/known": 0.5, "recall@50/known tail": 0.0}


def test_plots_every_model_but_no_differences() -> None:
    rows = [
        Row("shop", RANDOM, "own rank", None, 0.5, None, 1),
        Row("shop", "a − b", "own rank difference", None, 0, 0, 2),
    ]
    axes = fresh_items.plot(rows).axes
    assert [label.get_text() for label in axes[0].get_yticklabels()] == [RANDOM]
