import subprocess
import sys

import numpy as np
import pytest

from offline.errors import ConfigError
from offline.text import sentences
from offline.text.sentences import Sentences


@pytest.fixture
def fitted() -> Sentences:
    pytest.importorskip("wordllama", reason='an extra: pip install ".[sentences]"')
    return Sentences.fit([], 64)


def test_what_means_the_same_is_near(fitted: Sentences) -> None:
    found = fitted.encode(["a cup for tea", "a mug for coffee", "garden furniture", ""])
    assert found.shape == (4, 64)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx([1, 1, 1, 0])
    cosines = found @ found.T
    assert cosines[0, 1] > cosines[0, 2]
    assert cosines[0, 1] > cosines[1, 2]


def test_a_text_is_encoded_as_if_alone(fitted: Sentences) -> None:
    assert np.allclose(
        fitted.encode(["red", "a very long text of many words"])[0], fitted.encode(["red"])[0], atol=1e-6
    )


def test_the_log_stays_as_it_was(fitted: Sentences) -> None:
    code = (
        "import logging; from offline.text.sentences import Sentences; Sentences.fit([], 8);"
        "assert not logging.getLogger().handlers; assert logging.getLogger().level == logging.WARNING"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_more_dimensions_than_there_are_is_refused() -> None:
    with pytest.raises(ConfigError, match="at most 256"):
        Sentences.fit([], 257)


def test_without_the_extra_one_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wordllama", None)
    sentences._model.cache_clear()
    with pytest.raises(ConfigError, match=r'pip install "online-matching\[sentences\]"'):
        Sentences.fit([], 64)
