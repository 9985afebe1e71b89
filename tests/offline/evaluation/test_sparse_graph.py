import numpy as np
import pytest

from bandit.bundle import Bundle
from bandit.context import UNIT
from offline.evaluation import sparse_graph


def test_scores_are_the_contexts_weighted_priors(draft: Bundle) -> None:
    users = np.array([3, 0], dtype=np.int32)
    found = sparse_graph.scores(draft, users)
    for row, user in zip(found, users, strict=True):
        expected = np.zeros(draft.graph.num_items)
        for cluster, weight in zip(draft.user_clusters[user], draft.user_weights[user], strict=True):
            edges = draft.graph.row(cluster)
            expected[draft.graph.items[edges]] += weight / UNIT * draft.prior.probability[edges]
        assert row == pytest.approx(expected, rel=1e-5)


def test_candidates_are_the_items_of_the_users_clusters(draft: Bundle) -> None:
    users = np.arange(len(draft.users), dtype=np.int32)
    found = sparse_graph.candidates(draft, users)
    assert np.array_equal(found, sparse_graph.scores(draft, users) > 0)
    assert found.any(axis=1).all()
