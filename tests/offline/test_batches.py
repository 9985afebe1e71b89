import numpy as np
import pytest

from offline.batches import UNKNOWN, Batches, item_ids
from offline.data.dataset import Dataset
from offline.data.timelines import PAD, Timelines
from tests.offline.data.test_timelines import three_users


@pytest.fixture
def batches(data: Dataset) -> Batches:
    return Batches(data.timelines, len(data.items), size=16, history_length=5, targets=2, seed=3)


def test_an_epoch_holds_every_visit_at_most_once(batches: Batches) -> None:
    order = batches.order(0)
    seen = np.concatenate([order[0][number * 16 : (number + 1) * 16] for number in range(len(batches))])
    assert len(np.unique(seen)) == len(seen) == len(batches) * 16
    assert len(batches.visits.first) - len(seen) < 16


def test_targets_are_the_visits_items_and_histories_come_before(batches: Batches, data: Dataset) -> None:
    timelines: Timelines = data.timelines
    order = batches.order(1)
    batch = batches.batch(order, 2)
    for row, visit in enumerate(order[0][32:48]):
        first, size = batches.visits.first[visit], batches.visits.size[visit]
        targets = [batch.items[place] for place in batch.targets[row] if place != PAD]
        assert set(targets) <= set(timelines.items[first : first + size].tolist())
        assert len(targets) == min(size, 2)
        start = timelines.starts[batch.users[row]]
        expected = timelines.items[max(start, first - 5) : first][::-1].tolist()
        assert [batch.items[place] for place in batch.history[row] if place != PAD] == expected


def test_order_depends_on_seed_and_epoch_alone(batches: Batches, data: Dataset) -> None:
    again = Batches(data.timelines, len(data.items), size=16, history_length=5, targets=2, seed=3)
    assert np.array_equal(batches.order(4)[0], again.order(4)[0])
    assert np.array_equal(batches.order(4)[1], again.order(4)[1])
    assert not np.array_equal(batches.order(4)[0], batches.order(5)[0])


def test_each_item_is_listed_once_and_there_are_few_shapes(batches: Batches) -> None:
    order = batches.order(0)
    shapes = set()
    for number in range(len(batches)):
        batch = batches.batch(order, number)
        listed = batch.items[batch.items != PAD]
        assert len(np.unique(listed)) == len(listed)
        scored = len(batch.log_q)
        assert len(batch.items) - len(listed) <= 2 * len(batches.ids)
        targets, history = batch.targets[batch.targets != PAD], batch.history[batch.history != PAD]
        assert set(batch.items[:scored]) - {PAD} == set(batch.items[targets])
        assert set(batch.items[scored:]) - {PAD} == set(batch.items[history]) - set(batch.items[targets])
        shapes.add(tuple(array.shape for array in batch))
    assert len(shapes) <= 2


def test_each_item_brings_its_weight(batches: Batches) -> None:
    assert batches.batch(batches.order(0), 0).weights.tolist() == [1.0] * len(batches.batch(batches.order(0), 0).log_q)
    batches.weights = np.arange(len(batches.weights), dtype=np.float32)
    batch = batches.batch(batches.order(0), 0)
    scored = batch.items[: len(batch.weights)]
    there = scored != PAD
    assert np.array_equal(batch.weights[there], scored[there])


def test_log_q_is_the_share_of_targets() -> None:
    # User 0 takes 4, then 3 and 5 together; user 1 takes 6, then 7. With one target a visit, 3 and 5 share theirs.
    batches = Batches(three_users(), 9, size=4, history_length=2, targets=1, seed=0)
    assert batches.frequencies == pytest.approx(np.array([0, 0, 0, 0.5, 1, 0.5, 1, 1, 0]) / 4)
    assert np.exp(batches.log_q[3:8]) == pytest.approx(batches.frequencies[3:8])


def test_items_without_interactions_have_no_id_of_their_own() -> None:
    assert item_ids(three_users(), 9).tolist() == [UNKNOWN, UNKNOWN, UNKNOWN, 4, 5, 6, 7, 8, UNKNOWN]


def test_fewer_visits_than_a_batch_make_a_smaller_one() -> None:
    batches = Batches(three_users(), 9, size=100, history_length=2, targets=8, seed=0)
    assert (len(batches), batches.size, batches.targets) == (1, 4, 2)
