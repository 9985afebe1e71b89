from dataclasses import replace

import numpy as np
import pyarrow as pa

from offline.config import Text
from offline.data.dataset import Dataset, microseconds
from offline.data.timelines import before
from offline.text import columns, encoder
from offline.training.features import describe, text_encoder
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
