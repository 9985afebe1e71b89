from bandit.policies.base import EVERY_CANDIDATE
from bandit.policies.random import Random
from tests.bandit.policies.tiny import GRAPH, PRIOR, STATISTICS


def test_everything_is_worth_the_same() -> None:
    derived = Random().derive(GRAPH, STATISTICS, PRIOR)
    assert derived.mean.tolist() == derived.optimistic.tolist() == [0.0] * 4
    assert [len(array) for array in derived[2:5]] == [0, 0, 0]
    assert Random().randomise_over == EVERY_CANDIDATE
