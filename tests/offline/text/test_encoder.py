import numpy as np
import pytest

from offline.config import Text
from offline.text import encoder

TEXTS = ["red lamp", "blue mug", "", "green glass"]


@pytest.mark.parametrize("name", ["tfidf", "sentences"])
def test_a_packed_encoder_encodes_new_texts_as_before(name: str) -> None:
    if name == "sentences":
        pytest.importorskip("wordllama", reason='an extra: pip install ".[sentences]"')
    fitted = encoder.fit(Text.model_validate({"encoder": name, "dimension": 3}), TEXTS)
    assert fitted is not None
    loaded = encoder.unpack(encoder.pack(fitted))
    new = ["a blue lamp", "nobody said this", ""]
    assert type(loaded) is type(fitted)
    assert np.array_equal(loaded.encode(new), fitted.encode(new))
    assert loaded.encode(new).shape == (3, 3)


@pytest.mark.parametrize(("name", "texts"), [("none", TEXTS), ("tfidf", ["", " "]), ("tfidf", [])])
def test_there_is_none_where_none_is_wanted_or_nothing_is_said(name: str, texts: list[str]) -> None:
    assert encoder.fit(Text.model_validate({"encoder": name}), texts) is None
