"""The simulator's truth: blind to what the trainer sees, reproducible, calibrated."""

from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest

from loadtest.world import CEILING, FLOOR, World

TEST_START = datetime(2011, 10, 1, tzinfo=UTC)
CATALOGUE = [f"item-{i:03d}" for i in range(400)]
UNSOLD = 390  # the last ten items are never bought


def purchases(seed: int, first_day: datetime, users: int = 150) -> pa.Table:
    """Eight groups of users, each with favourites of its own; long-tailed items and numbers of baskets."""
    rng = np.random.default_rng(seed)
    popularity = 1 / np.arange(1, UNSOLD + 1)
    rows: list[dict[str, object]] = []
    for user in range(users):
        weights = np.where(np.arange(UNSOLD) % 8 == user % 8, 20 * popularity, popularity)
        for _ in range(min(int(rng.pareto(1.2)) + 1, 30)):
            moment = first_day + timedelta(minutes=int(rng.integers(0, 60 * 24 * 50)))
            rows.extend(
                {"user_id": f"user-{user:03d}", "item_id": CATALOGUE[item], "timestamp": moment}
                for item in rng.choice(UNSOLD, size=8, p=weights / weights.sum())
            )
    return pa.Table.from_pylist(rows)


@pytest.fixture(scope="module")
def events() -> pa.Table:
    return purchases(1, TEST_START)


@pytest.fixture(scope="module")
def world(events: pa.Table) -> World:
    return World.fit(events, TEST_START, seed=0, items=CATALOGUE)


def assert_same(left: World, right: World) -> None:
    assert left.users == right.users
    assert left.items == right.items
    np.testing.assert_array_equal(left.visit_rate, right.visit_rate)
    np.testing.assert_array_equal(left.click_probability, right.click_probability)


def test_shapes_types_and_bounds(world: World) -> None:
    assert world.visit_rate.shape == (len(world.users),)
    assert world.visit_rate.dtype == np.float64
    assert world.click_probability.shape == (len(world.users), 400)
    assert world.click_probability.dtype == np.float32
    assert world.visit_rate.sum() == pytest.approx(1)
    assert world.click_probability.min() >= np.float32(FLOOR)
    assert world.click_probability.max() <= np.float32(CEILING)
    assert world.item_index["item-007"] == 7


def test_truth_cannot_be_written_to(world: World) -> None:
    with pytest.raises(ValueError, match="read-only"):
        world.click_probability[0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        world.visit_rate[0] = 1


@pytest.mark.parametrize("seed", [2, 3])
def test_earlier_purchases_are_not_seen(events: pa.Table, world: World, seed: int) -> None:
    # More users than the test period has, so an earlier row that leaked would add a user at least.
    earlier = purchases(seed, TEST_START - timedelta(days=50), users=200)
    last_moment_before = pa.Table.from_pylist(
        [{"user_id": "early", "item_id": CATALOGUE[0], "timestamp": TEST_START - timedelta(microseconds=1)}]
    )
    both = pa.concat_tables([earlier, events, last_moment_before])
    assert_same(World.fit(both, TEST_START, seed=0, items=CATALOGUE), world)


def test_first_moment_of_the_test_period_is_seen(events: pa.Table) -> None:
    first = pa.Table.from_pylist([{"user_id": "first", "item_id": CATALOGUE[0], "timestamp": TEST_START}])
    assert "first" in World.fit(pa.concat_tables([events, first]), TEST_START, seed=0, items=CATALOGUE).users


def test_same_seed_same_world_in_any_order_of_rows(events: pa.Table, world: World) -> None:
    shuffled = events.take(np.random.default_rng(0).permutation(events.num_rows))
    assert_same(World.fit(shuffled, TEST_START, seed=0, items=CATALOGUE), world)


def test_units_zones_and_further_columns_change_nothing(events: pa.Table, world: World) -> None:
    milliseconds = events["timestamp"].cast(pa.timestamp("ms"))  # names no zone: UTC
    table = events.set_column(2, "timestamp", milliseconds).append_column("price", pa.nulls(events.num_rows))
    assert_same(World.fit(table, TEST_START.replace(tzinfo=None), seed=0, items=CATALOGUE), world)
    elsewhere = TEST_START.astimezone(timezone(timedelta(hours=9)))
    assert_same(World.fit(table, elsewhere, seed=0, items=CATALOGUE), world)


def test_calibration(world: World) -> None:
    probability = world.click_probability
    oracle = world.visit_rate @ -np.sort(-probability, axis=1)[:, :10].mean(axis=1)
    fixed = np.sort(world.visit_rate @ probability)[-10:].mean()
    random = world.visit_rate @ probability.mean(axis=1)
    assert oracle == pytest.approx(0.25, abs=1e-4)
    assert random <= 0.03
    # Personal taste matters: no slate for everybody comes near the oracle, yet popular beats random.
    assert 2 * random < fixed < 0.7 * oracle


def test_clicks_follow_the_probabilities(world: World) -> None:
    rng = np.random.default_rng(0)
    user = world.visitor(rng)
    slate = [world.items[column] for column in world.oracle_slate(user, 10)]
    rounds = 4000
    shown = np.mean([world.clicks(user, slate, rng) for _ in range(rounds)], axis=0)
    oracle = np.mean([world.oracle_click(user, 10, rng) for _ in range(rounds)], axis=0)
    truth = world.click_probability[user, world.oracle_slate(user, 10)]
    tolerance = 5 * np.sqrt(truth * (1 - truth) / rounds)
    assert (np.abs(shown - truth) < tolerance).all()
    assert (np.abs(oracle - truth) < tolerance).all()


def test_oracle_slate_is_best_first(world: World) -> None:
    slate = world.oracle_slate(3, 400)
    assert slate.dtype == np.int64
    assert sorted(slate) == list(range(400))
    assert (np.diff(world.click_probability[3, slate]) <= 0).all()


def test_visitors_follow_the_visit_rate(events: pa.Table, world: World) -> None:
    baskets = {(row["user_id"], row["timestamp"]) for row in events.to_pylist()}
    busiest = int(np.argmax(world.visit_rate))
    of_busiest = sum(user == world.users[busiest] for user, _ in baskets)
    assert world.visit_rate[busiest] == pytest.approx(of_busiest / len(baskets))
    rng = np.random.default_rng(0)
    seen = np.bincount([world.visitor(rng) for _ in range(5000)], minlength=len(world.users)) / 5000
    assert np.abs(seen - world.visit_rate).max() < 0.02


def test_unsold_and_unknown_items_get_the_floor(world: World) -> None:
    assert (world.click_probability[:, UNSOLD:] == np.float32(FLOOR)).all()
    clicks = world.clicks(0, ["never heard of"] * 200_000, np.random.default_rng(0))
    assert clicks.dtype == np.bool_
    assert clicks.mean() == pytest.approx(FLOOR, rel=0.3)
    assert world.clicks(0, [], np.random.default_rng(0)).shape == (0,)


def test_purchases_outside_the_catalogue_are_ignored(events: pa.Table, world: World) -> None:
    stranger = pa.Table.from_pylist([{"user_id": "x", "item_id": "postage", "timestamp": TEST_START}])
    assert_same(World.fit(pa.concat_tables([events, stranger]), TEST_START, seed=0, items=CATALOGUE), world)


def test_errors_say_what_to_do(events: pa.Table, world: World) -> None:
    with pytest.raises(ValueError, match=r"the latest is at 2011-1.*pass a test_start no later than that"):
        World.fit(events, datetime(2012, 1, 1, tzinfo=UTC), seed=0, items=CATALOGUE)
    with pytest.raises(ValueError, match="events hold no purchases"):
        World.fit(events.slice(0, 0), TEST_START, seed=0, items=CATALOGUE)
    with pytest.raises(ValueError, match="lack the columns \\['timestamp'\\]"):
        World.fit(events.drop_columns("timestamp"), TEST_START, seed=0, items=CATALOGUE)
    with pytest.raises(ValueError, match="repeats 1 item ids"):
        World.fit(events, TEST_START, seed=0, items=[*CATALOGUE, CATALOGUE[0]])
    with pytest.raises(ValueError, match="0 items of the catalogue were bought"):
        World.fit(events, TEST_START, seed=0, items=["a", "b"])
    for limit in (0, 401):
        with pytest.raises(ValueError, match=f"limit is {limit}"):
            world.oracle_slate(0, limit)
    for user in (-1, len(world.users)):
        with pytest.raises(ValueError, match=f"user is {user}"):
            world.clicks(user, ["item-000"], np.random.default_rng(0))
