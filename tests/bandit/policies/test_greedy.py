from bandit.policies.greedy import Greedy
from tests.bandit.policies.tiny import GRAPH, PRIOR, STATISTICS


def test_the_offline_model_alone() -> None:
    derived = Greedy().derive(GRAPH, STATISTICS, PRIOR)
    assert derived.mean is derived.optimistic is PRIOR.probability
    assert [len(array) for array in derived[2:5]] == [0, 0, 0]
    assert Greedy().randomise_over == 0
