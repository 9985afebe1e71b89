import numpy as np

from bandit.bundle import Bundle
from offline.data.timelines import PAD
from offline.evaluation import sparse_graph
from offline.ranker import reranking


def test_the_best_are_those_that_the_prior_puts_first(draft: Bundle) -> None:
    users = np.arange(draft.manifest.counts.users, dtype=np.int32)
    scores = sparse_graph.scores(draft, users)
    found = reranking.best(draft, 12)
    for user in users:
        here = found[user][found[user] != PAD]
        assert len(set(here.tolist())) == len(here) == min(12, int((scores[user] > 0).sum()))
        assert np.allclose(scores[user][here], np.sort(scores[user])[::-1][: len(here)])
        assert (found[user][len(here) :] == PAD).all()
