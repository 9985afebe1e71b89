import numpy as np
import pytest

from offline.data.dataset import Dataset
from offline.data.timelines import PAD
from offline.ranker.examples import Examples
from tests.offline.conftest import NUM_ITEMS, RANK

CONFIG = RANK.model_copy(update={"negatives_per_visit": 4000, "visits_per_batch": 8})


@pytest.fixture(scope="module")
def examples(data: Dataset) -> Examples:
    candidates = np.array([[0, 3, 6, 29, PAD]] * len(data.users), dtype=np.int32)
    return Examples(data.timelines, candidates, NUM_ITEMS, CONFIG)


def test_negatives_are_drawn_as_often_as_expected(examples: Examples) -> None:
    example = examples.example(examples.batches.order(0), 0, 0)
    frequencies = examples.batches.frequencies
    for visit in range(8):
        counts = np.bincount(example.negatives[visit], minlength=NUM_ITEMS)
        expected = 2000 * frequencies + np.isin(np.arange(NUM_ITEMS), [0, 3, 6, 29]) * 500
        assert np.abs(counts - expected).max() < 6 * np.sqrt(expected.max())
        told = np.exp(example.log_expected[visit])
        finite = np.isfinite(told)
        assert told[finite] == pytest.approx(expected[example.negatives[visit]][finite], rel=1e-5)


def test_what_the_visit_took_is_no_negative(examples: Examples, data: Dataset) -> None:
    order = examples.batches.order(0)
    example = examples.example(order, 0, 1)
    visits = examples.batches.visits
    for row, visit in enumerate(order[0][8:16]):
        first, size = visits.first[visit], visits.size[visit]
        own = set(data.timelines.items[first : first + size].tolist())
        assert {item for item in example.targets[row].tolist() if item != PAD} <= own
        out = ~np.isfinite(example.log_expected[row])
        assert set(example.negatives[row][out].tolist()) <= own
        assert not own & set(example.negatives[row][~out].tolist())


def test_the_same_seed_gives_the_same_examples(examples: Examples, data: Dataset) -> None:
    again = Examples(data.timelines, examples.candidates, NUM_ITEMS, CONFIG)
    first, second = (made.example(made.batches.order(1), 1, 2) for made in (examples, again))
    assert all(np.array_equal(one, other) for one, other in zip(first, second, strict=True))
