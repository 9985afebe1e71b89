import numpy as np
import pyarrow.compute as pc
import pytest

from offline.config import Synthetic
from offline.data import synthetic

SMALL = Synthetic(users=3_000, clusters=6, items_per_cluster=4, interests=3)


def generator() -> np.random.Generator:
    return np.random.default_rng(0)


def test_every_user_takes_one_item_a_day_by_the_settings() -> None:
    table = synthetic.interactions(SMALL.model_copy(update={"users": 50}))
    assert table.column_names == ["user_id", "item_id", "timestamp"]
    assert len(table) == len(table.group_by(["user_id", "timestamp"]).aggregate([])) == 50 * 20
    assert len(pc.unique(table["timestamp"])) == 20
    assert set(table["item_id"].to_pylist()) == {f"c{c:03}-{rank:04}" for c in range(6) for rank in range(4)}


def test_the_seed_decides() -> None:
    one, same, other = (synthetic.interactions(SMALL.model_copy(update={"seed": seed})) for seed in (1, 1, 2))
    assert one.equals(same)
    assert not one.equals(other)


def test_interests_are_as_many_as_asked_when_even_and_at_most_that_when_skewed() -> None:
    even = synthetic.likes(SMALL.model_copy(update={"interest_power": 0.0}), generator())
    assert (even.sum(axis=1) == 3).all()
    assert even.mean(axis=0) == pytest.approx(0.5, abs=0.03)
    liked = synthetic.likes(SMALL.model_copy(update={"interest_power": 1.0}), generator())
    weights = 1 / np.arange(1, 7)
    drawn = weights / weights.sum()
    assert set(liked.sum(axis=1)) == {1, 2, 3}
    assert liked.mean(axis=0) == pytest.approx(1 - (1 - drawn) ** 3, abs=0.03)


@pytest.mark.parametrize(
    ("liked", "at", "expected"),
    [
        ([1, 1, 1, 0, 0], 1, [0.15, 0.6, 0.15, 0.05, 0.05]),
        ([1, 0, 0, 0, 0], 0, [0.9, 0.025, 0.025, 0.025, 0.025]),
        ([1, 1, 0, 0, 0], 4, [0.4, 0.4, 0, 0, 0.2]),
        ([1, 1, 1, 1, 1], 2, [0.075, 0.075, 0.6, 0.075, 0.075]),  # nowhere to stray to: 0.9, and `walk` scales it
    ],
)
def test_chances_of_a_step(liked: list[int], at: int, expected: list[float]) -> None:
    settings = Synthetic(alpha=0.6, gamma=0.3, epsilon=0.2)
    found = synthetic.onward(np.array([liked], dtype=bool), np.array([at]), settings)
    assert found[0] == pytest.approx(np.array(expected))


def test_steps_are_as_likely_as_their_chances() -> None:
    settings = SMALL.model_copy(update={"clusters": 5, "users": 20_000})
    liked = np.tile(np.array([1, 1, 1, 0, 0], dtype=bool), (settings.users, 1))
    path = synthetic.walk(liked, settings, generator())
    assert np.bincount(path[:, 0], minlength=5) / len(path) == pytest.approx(np.full(5, 0.2), abs=0.01)
    steps = path[:, :-1][path[:, :-1] == 1], path[:, 1:][path[:, :-1] == 1]
    shares = np.bincount(steps[1], minlength=5) / len(steps[1])
    assert shares == pytest.approx(np.array([0.15, 0.6, 0.15, 0.05, 0.05]), abs=0.01)


def test_who_likes_everything_goes_everywhere() -> None:
    path = synthetic.walk(np.ones((500, 4), dtype=bool), SMALL.model_copy(update={"clusters": 4}), generator())
    assert set(np.unique(path)) == {0, 1, 2, 3}


def test_popular_items_come_first() -> None:
    found = synthetic.skewed(4, 1.0, (40_000,), generator())
    assert np.bincount(found) / len(found) == pytest.approx(np.array([12, 6, 4, 3]) / 25, abs=0.01)
    even = synthetic.skewed(4, 0.0, (40_000,), generator())
    assert np.bincount(even) / len(even) == pytest.approx(np.full(4, 0.25), abs=0.01)
