from hashlib import blake2b
from math import sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.policies import POLICIES
from service.experiment import Experiment, UnknownArm, policy_of
from service.settings import Arm

PEOPLE = [blake2b(str(n).encode(), digest_size=16).digest() for n in range(20_000)]


def arms(*shares: float) -> list[Arm]:
    return [Arm(name=f"arm-{n}", share=share) for n, share in enumerate(shares)]


@pytest.mark.parametrize("shares", [(1,), (1, 1), (0.2, 0.3, 0.5), (90, 9, 1), (0, 1, 0, 3, 0)])
def test_arms_get_their_shares(shares: tuple[float, ...]) -> None:
    experiment = Experiment(arms(*shares))
    chosen = [experiment.choose(person).name for person in PEOPLE]
    for n, share in enumerate(shares):
        expected = share / sum(shares)
        deviation = sqrt(expected * (1 - expected) / len(PEOPLE))
        assert abs(chosen.count(f"arm-{n}") / len(PEOPLE) - expected) <= 4 * deviation, n


def test_the_choice_is_the_same_in_every_process() -> None:
    one, other = Experiment(arms(1, 2, 3)), Experiment(arms(1, 2, 3))
    assert [one.choose(person) for person in PEOPLE[:500]] == [other.choose(person) for person in PEOPLE[:500]]


def test_who_shares_a_shard_does_not_share_an_arm() -> None:
    """The first eight bytes choose the shard; were they to choose the arm too, a shard would hold one arm's users."""
    experiment = Experiment(arms(1, 1))
    chosen = [experiment.choose(bytes(8) + person[8:]).name for person in PEOPLE]
    assert 0.45 < chosen.count("arm-0") / len(chosen) < 0.55
    assert [experiment.choose(person).name for person in PEOPLE] == chosen


def test_a_larger_share_keeps_those_who_had_the_arm() -> None:
    before, after = Experiment(arms(1, 9)), Experiment(arms(2, 8))
    for person in PEOPLE[:2000]:
        if before.choose(person).name == "arm-0":
            assert after.choose(person).name == "arm-0"


@given(st.lists(st.floats(0, 1e300), min_size=1, max_size=8).filter(lambda shares: sum(shares) > 0))
def test_somebody_is_always_chosen_and_never_an_arm_without_a_share(shares: list[float]) -> None:
    experiment = Experiment(arms(*shares))
    for hashed in (0, 1, 2**63, 2**64 - 1):
        assert experiment.choose(bytes(8) + hashed.to_bytes(8, "little")).share > 0


def test_an_arm_can_be_named_even_without_a_share() -> None:
    experiment = Experiment(arms(0, 1))
    assert experiment.named("arm-0").name == "arm-0"


def test_an_unknown_arm_is_refused_with_those_that_are_known() -> None:
    with pytest.raises(UnknownArm, match="no arm 'best'; the experiment table has arm-0, arm-1"):
        Experiment(arms(1, 1)).named("best")


def test_namespaces_are_listed_once_in_the_tables_order() -> None:
    table = [Arm(name=name, namespace=namespace) for name, namespace in (("a", "y"), ("b", "x"), ("c", "y"))]
    assert Experiment(table).namespaces == ("y", "x")


def test_an_arms_policy_is_the_one_it_names() -> None:
    for name, policy in POLICIES.items():
        assert policy_of(Arm(name="a", policy=name)) is policy
