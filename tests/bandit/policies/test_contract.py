"""What every policy promises."""

from functools import cache

import numpy as np
import pytest
from numpy.typing import NDArray

from bandit.bundle import Bundle
from bandit.context import UNIT, Context
from bandit.kernel import Workspace, edges, score
from bandit.policies import DEFAULT_POLICY, POLICIES
from bandit.policies.base import Policy
from bandit.prior import BASE_RATE, Prior
from bandit.slate import draw
from bandit.statistics import SCALE, impression, natural, reward, zeros
from tests.bundles import small_bundle

LEARNING = ["calibrated_diag_linucb", "diag_linucb", "diag_linucb_prior", "popular"]
NONE = np.zeros(0, dtype=np.int32)


def priors(bundle: Bundle) -> list[Prior]:
    flat = np.full(bundle.graph.num_edges, BASE_RATE, dtype=np.float32)
    return [bundle.prior, bundle.prior._replace(probability=flat, informed=False)]


def add(
    sums: NDArray[np.int64], bundle: Bundle, context: Context, items: NDArray[np.int32], deltas: NDArray[np.int64]
) -> None:
    """Add deltas int64[K, 3] on the edges of every item."""
    for slots in edges(bundle.graph, context, items):
        there = slots >= 0
        np.add.at(sums, bundle.graph.indptr[context.clusters[there]] + slots[there], deltas[there])


def shown(context: Context) -> NDArray[np.int64]:
    return impression(context.weights.astype(np.int64), np.full(len(context.weights), UNIT, dtype=np.int64))


def rewarded(context: Context) -> NDArray[np.int64]:
    return reward(context.weights.astype(np.int64), UNIT)


def scores(policy: Policy, bundle: Bundle, prior: Prior, sums: NDArray[np.int64]) -> dict[int, float]:
    """The population's scores by item."""
    derived = policy.derive(bundle.graph, natural(sums), prior)
    found = score(bundle.graph, bundle.population, derived, NONE, Workspace(bundle.graph.num_items))
    return dict(zip(found.items.tolist(), found.scores.tolist(), strict=True))


def test_names() -> None:
    assert {name: policy.name for name, policy in POLICIES.items()} == {name: name for name in POLICIES}
    assert set(POLICIES) == {*LEARNING, "greedy", "random"}
    assert DEFAULT_POLICY in POLICIES


@pytest.mark.parametrize("name", POLICIES)
@pytest.mark.parametrize("most", [0, 1, SCALE, 2**63 - 1])
def test_derived_arrays_have_their_shapes_and_are_finite(name: str, most: int) -> None:
    bundle = small_bundle()
    j, e = bundle.graph.num_items, bundle.graph.num_edges
    rng = np.random.default_rng(0)
    for prior in priors(bundle):
        for column in ([0, 1, 2], [0, 1], [2], [0]):  # all large, only shown, only rewarded, only d
            sums = zeros(e)
            sums[:, column] = np.where(rng.random((e, len(column))) < 0.7, most, 0)
            derived = POLICIES[name].derive(bundle.graph, natural(sums), prior)
            assert [array.dtype for array in derived[:5]] == [np.float32] * 4 + [np.bool_]
            assert len(derived.mean) == len(derived.optimistic) == e
            assert len(derived.variance) in {0, e}
            assert len(derived.base) in {0, j}
            assert len(derived.untouched) in {0, e}
            found = score(bundle.graph, bundle.population, derived, NONE, Workspace(j))
            assert np.isfinite(found.scores).all()
            assert np.isfinite(found.means).all()
            assert (found.scores >= found.means).all()


@pytest.mark.parametrize("name", POLICIES)
def test_deriving_is_pure(name: str) -> None:
    bundle = small_bundle()
    statistics = natural(np.random.default_rng(0).integers(0, SCALE, size=(bundle.graph.num_edges, 3)))
    for prior in priors(bundle):
        for array in (*statistics, prior.probability, prior.strength, bundle.graph.indptr, bundle.graph.items):
            array.flags.writeable = False  # a policy that writes to its arguments raises
        first = POLICIES[name].derive(bundle.graph, statistics, prior)
        again = POLICIES[name].derive(bundle.graph, statistics, prior)
        for one, other in zip(first, again, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("name", LEARNING)
def test_a_reward_raises_and_an_unrewarded_impression_lowers_the_score(name: str) -> None:
    bundle = small_bundle()
    everywhere = zeros(bundle.graph.num_edges)  # no edge is untouched
    everywhere[:, :2] = np.random.default_rng(0).integers(SCALE, 20 * SCALE, size=(bundle.graph.num_edges, 1))
    for prior in priors(bundle):
        before = scores(POLICIES[name], bundle, prior, everywhere)
        for item in list(before)[:10]:
            items = np.array([item], dtype=np.int32)
            for deltas, sign in ((rewarded(bundle.population), 1), (shown(bundle.population), -1)):
                sums = everywhere.copy()
                add(sums, bundle, bundle.population, items, deltas)
                after = scores(POLICIES[name], bundle, prior, sums)
                assert sign * (after[item] - before[item]) > 0


@cache
def simulated_rewards(name: str) -> float:
    """Mean reward per slate of a policy that starts from zero in a world that its prior knows only roughly."""
    bundle = small_bundle(seed=3)
    graph, rng = bundle.graph, np.random.default_rng(11)
    quality = rng.lognormal(0.0, 1.0, size=graph.num_items)
    truth = np.minimum(0.9, 2 * bundle.prior.probability * quality[graph.items]).astype(np.float32)
    policy, workspace, sums = POLICIES[name], Workspace(graph.num_items), zeros(graph.num_edges)
    total, rounds = 0, 1500
    for number in range(rounds):
        if number % 10 == 0:
            derived = policy.derive(graph, natural(sums), bundle.prior)
        context = bundle.context(bundle.users["user_id"][int(rng.integers(40))].as_py())
        assert context is not None
        found = score(graph, context, derived, NONE, workspace)
        items = draw(found, 4, policy.randomise_over, rng, bundle.item_order, NONE).items
        add(sums, bundle, context, items, shown(context))
        slots = edges(graph, context, items)
        there = slots >= 0
        probability = np.where(there, truth[graph.indptr[context.clusters] + slots], 0) @ (context.weights / UNIT)
        clicked = items[rng.random(len(items)) < probability]
        add(sums, bundle, context, clicked, rewarded(context))
        total += len(clicked)
    return total / rounds


@pytest.mark.parametrize("name", LEARNING)
def test_learning_beats_chance(name: str) -> None:
    assert simulated_rewards(name) > 1.2 * simulated_rewards("random")


def test_the_default_beats_the_offline_model_alone() -> None:
    assert simulated_rewards(DEFAULT_POLICY) > 1.1 * simulated_rewards("greedy")
