import pytest

from bandit.policies.popular import Popular
from tests.bandit.policies.tiny import GRAPH, PRIOR, STATISTICS


def test_an_items_reward_rate_over_all_clusters() -> None:
    derived = Popular().derive(GRAPH, STATISTICS, PRIOR)
    assert derived.base.tolist() == pytest.approx([1 / 20, (3 + 1) / (10 + 20), 1 / 25])
    assert derived.mean.tolist() == derived.optimistic.tolist() == [0.0] * 4
    assert len(derived.variance) == len(derived.untouched) == 0
