import numpy as np

from offline.evaluation import popularity
from tests.offline.data.test_timelines import three_users


def test_scores_everybody_by_interactions() -> None:
    scores = popularity.scores(three_users(), np.array([0, 2], dtype=np.int32), 9)
    assert scores.tolist() == [[0, 0, 0, 1, 1, 1, 1, 1, 0]] * 2


def test_recent_ones_alone_may_count() -> None:
    (scores,) = popularity.scores(three_users(), np.array([0], dtype=np.int32), 9, since=20)
    assert np.flatnonzero(scores).tolist() == [3, 5, 7]
