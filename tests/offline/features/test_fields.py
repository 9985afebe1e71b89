import numpy as np
import pyarrow as pa
import pytest

from bandit.manifest import Reading
from offline.features import fields as reading
from offline.features.fields import fields
from offline.features.tokens import EMPTY, bags

TABLE = pa.table(
    {
        "item_id": ["a", "b", "c", "d"],
        "title": ["Red Lamp", "lamp", None, "red red"],
        "price": [1.0, 3.0, None, 1e9],
        "tags": [["x", "y"], [], ["x"], None],
        "nothing": pa.array([None] * 4, pa.string()),
        "stock": [0, 0, 0, 0],
    }
)
ALL = np.ones(4, dtype=bool)


def read(learn_from: np.ndarray = ALL, width: int = 8) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    return fields(TABLE, "item_id", learn_from, 1000, width)[:2]


def test_each_column_of_words_is_a_bag_of_its_own() -> None:
    (title, tags), _ = read()
    assert (title.shape, tags.shape) == ((4, 2), (4, 2))
    assert set(title[1]) - {EMPTY} < set(title[0])  # lamp
    assert (title[2] == EMPTY).all()
    assert set(title[3]) - {EMPTY} < set(title[0])  # red, once
    assert not set(title.ravel()) & set(tags.ravel()) - {EMPTY}
    whole = bags(TABLE.select(["item_id", "title"]), "item_id", ALL, 1000, 8)
    assert np.array_equal(title, whole)


def test_a_row_keeps_as_many_words_as_asked_in_each_column() -> None:
    assert [column.shape[1] for column in read(width=1)[0]] == [1, 1]


def test_numbers_are_normalised_by_the_rows_one_may_learn_from_and_missing_ones_are_the_mean() -> None:
    _, numbers = read(np.array([True, True, True, False]))
    assert numbers.shape == (4, 2)
    assert numbers[:3, 0] == pytest.approx(np.array([-1, 1, 0]), abs=1e-5)
    assert numbers[3, 0] > 10
    assert (numbers[:, 1] == 0).all()


def test_without_anything_to_learn_from_numbers_tell_nothing() -> None:
    assert read(np.zeros(4, dtype=bool))[1].shape == (4, 0)


def test_what_was_learned_survives_json_and_reads_other_tables_alike() -> None:
    learned = reading.learn(TABLE, "item_id", ALL, 1000, 8)
    assert [(column.name, column.kind) for column in learned.columns] == [
        ("title", "words"),
        ("tags", "words"),
        ("price", "number"),
        ("stock", "number"),
    ]
    part = TABLE.slice(1, 1)
    words, numbers, _ = reading.read(part, Reading.model_validate_json(learned.model_dump_json()))
    whole = fields(TABLE, "item_id", ALL, 1000, 8)
    assert set(words[0][0]) == set(whole.words[0][1]) - {EMPTY}
    assert np.array_equal(numbers[0], whole.numbers[1])


def test_a_table_of_ids_alone_has_no_fields() -> None:
    words, numbers, vectors = fields(TABLE.select(["item_id"]), "item_id", ALL, 10, 3)
    assert words == vectors == ()
    assert numbers.shape == (4, 0)
