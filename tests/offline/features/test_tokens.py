import numpy as np
import pyarrow as pa

from offline.features.tokens import EMPTY, bags

ALL = np.ones(3, dtype=bool)


def sets(table: pa.Table, learn_from: np.ndarray = ALL, buckets: int = 1 << 20, width: int = 16) -> list[set[int]]:
    return [set(row) - {EMPTY} for row in bags(table, "id", learn_from, buckets, width).tolist()]


def test_texts_share_tokens_where_they_share_words() -> None:
    red_bag, bag_red, blue = sets(pa.table({"id": ["1", "2", "3"], "text": ["RED bag", "bag, red!", "blue"]}))
    assert red_bag == bag_red
    assert len(red_bag) == 2
    assert not red_bag & blue


def test_columns_do_not_share_tokens() -> None:
    (row, *_) = sets(pa.table({"id": ["1", "2", "3"], "a": ["x", "", ""], "b": ["x", "", ""]}))
    assert len(row) == 2


def test_numbers_fall_into_deciles_of_the_rows_to_learn_from() -> None:
    prices = pa.table({"id": ["1", "2", "3"], "price": [1.0, 2.0, 1000.0]})
    low, middle, high = sets(prices)
    assert len({*low, *middle, *high}) == 3
    # Learned from the first row alone, 2 and 1000 are both just "more".
    low, middle, high = sets(prices, learn_from=np.array([True, False, False]))
    assert middle == high


def test_rows_to_learn_from_alone_set_the_edges() -> None:
    learn = np.array([True, True, False])
    one = bags(pa.table({"id": ["1", "2", "3"], "n": [1, 2, 3]}), "id", learn, 999, 4)
    other = bags(pa.table({"id": ["1", "2", "3"], "n": [1, 2, 9999]}), "id", learn, 999, 4)
    assert np.array_equal(one, other)


def test_lists_booleans_missing_values_and_other_types() -> None:
    table = pa.table(
        {
            "id": ["1", "2", "3"],
            "tags": pa.array([["a", "b c"], [], None]),
            "new": [True, False, None],
            "n": [1, None, None],
            "raw": pa.array([b"x", b"y", None]),
        }
    )
    assert [len(row) for row in sets(table)] == [5, 1, 0]


def test_width_and_buckets_bound_the_result() -> None:
    table = pa.table({"id": ["1", "2", "3"], "text": ["a b c d e f", "a", ""]})
    found = bags(table, "id", ALL, 99, 3)
    assert found.shape == (3, 3)
    assert found.dtype == np.int32
    assert found.min() >= 0
    assert found.max() < 99
    assert bags(table, "id", ALL, 2, 3).max() == 1
    assert bags(table.select(["id"]), "id", ALL, 99, 3).shape == (3, 1)
