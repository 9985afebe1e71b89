from dataclasses import replace

import numpy as np
import pyarrow as pa

from offline.config import Text
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import before
from offline.features.fields import Fields
from offline.text import columns, encoder
from offline.training.features import describe, places, text_encoder
from tests.offline.conftest import INTERESTS, TRAIN


def test_text_is_encoded_as_items_of_the_training_period_have_taught(data: Dataset) -> None:
    # Items 27–29 are of the test period; what they are called may not be learned from.
    names = [f"{'new' if number >= 27 else 'old'} thing {number}" for number in range(len(data.items))]
    named = replace(data, items=pa.table({"item_id": data.items["item_id"], "name": names}))
    text = text_encoder(named, named.timelines, INTERESTS)
    assert text is not None
    found = describe(named, named.timelines, INTERESTS, text).items
    expected = encoder.fit(INTERESTS.text, names[:27])
    assert expected is not None
    assert np.array_equal(found.vectors[0], expected.encode(columns.texts(named.items, "item_id")))
    assert found.vectors[0].shape == (30, INTERESTS.text.dimension)


def test_without_an_encoder_or_a_tower_that_reads_vectors_there_are_none(data: Dataset) -> None:
    earlier = before(data.timelines, microseconds(data.split.validation_start))
    for config in (INTERESTS.model_copy(update={"text": Text(encoder="none")}), TRAIN):
        assert text_encoder(data, earlier, config) is None
    assert describe(data, earlier, INTERESTS).items.vectors == ()


def test_words_become_places_among_those_that_are_there() -> None:
    words = np.array([[9, 4, 0], [4, 0, 0]], np.int32), np.array([[7], [9]], np.int32)
    numbers = np.ones((2, 1), np.float32)
    touched, found = places(Fields(words, numbers), 100)
    assert touched[:4].tolist() == [0, 4, 7, 9]
    assert [column.tolist() for column in found.words] == [[[3, 1, 0], [1, 0, 0]], [[2], [3]]]
    assert found.numbers is numbers
    touched, found = places(words[0], 100)
    assert touched[:3].tolist() == [0, 4, 9]
    assert found.tolist() == [[2, 1, 0], [1, 0, 0]]


def test_rows_without_words_read_nothing() -> None:
    touched, found = places(Fields((), np.ones((2, 1), np.float32)), None)
    assert (touched.tolist(), found.words) == ([0], ())
