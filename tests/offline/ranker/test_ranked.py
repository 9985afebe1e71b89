from pathlib import Path

import numpy as np

from offline.data.timelines import PAD
from offline.ranker import ranked
from offline.ranker.ranked import Ranked

FOUND = Ranked(
    np.array([[4, 1, 2], [0, PAD, PAD]], dtype=np.int32),
    np.array([[-5, 3, 0.1], [2, -np.inf, -np.inf]], dtype=np.float32),
)


def test_candidates_come_first_as_the_ranker_says_then_the_others() -> None:
    below = np.array([[0.1, 0.9, 0, 0.2, 0.3], [0.1, 0.9, 0, 0.2, 0.3]], dtype=np.float32)
    scores = FOUND.scores(np.array([0, 1], dtype=np.int32), below)
    assert np.argsort(-scores, axis=1).tolist() == [[1, 2, 4, 3, 0], [0, 1, 4, 3, 2]]


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    ranked.save(FOUND, tmp_path / "ranked")
    found = ranked.load(tmp_path / "ranked")
    assert all(np.array_equal(one, other) for one, other in zip(found, FOUND, strict=True))
