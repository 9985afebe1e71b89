import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bandit.kernel import Candidates
from bandit.policies.base import EVERY_CANDIDATE
from bandit.slate import Slate, Source, draw, logging_slice

NONE = np.zeros(0, dtype=np.int32)


def candidates(scores: list[float], means: list[float] | None = None, untouched: list[int] | None = None) -> Candidates:
    """Items 0, 1, 2, … with these scores."""
    first = np.zeros(len(scores), dtype=np.bool_)
    first[untouched or []] = True
    return Candidates(
        np.arange(len(scores), dtype=np.int32),
        np.array(scores, dtype=np.float32),
        np.array(scores if means is None else means, dtype=np.float32),
        first,
    )


def frequencies(
    found: Candidates, limit: int, randomise_over: int, draws: int = 4000
) -> tuple[list[float], list[float], Slate]:
    """How often each item was in the slate, and on its first place; and the last slate."""
    rng = np.random.default_rng(7)
    included, first = np.zeros(len(found.items)), np.zeros(len(found.items))
    for _ in range(draws):
        slate = draw(found, limit, randomise_over, rng, NONE, NONE)
        included[slate.items] += 1
        first[slate.items[0]] += 1
    return (included / draws).tolist(), (first / draws).tolist(), slate


@given(
    st.integers(0, 2**32),
    st.integers(1, 30),
    st.integers(0, 12),
    st.sampled_from([0, 1, 3, 20, EVERY_CANDIDATE]),
)
def test_slates_are_full_without_repeats_or_excluded_items(
    seed: int, catalogue: int, limit: int, randomise_over: int
) -> None:
    rng = np.random.default_rng(seed)
    excluded = rng.permutation(catalogue)[: rng.integers(catalogue + 1)].astype(np.int32)
    allowed = np.setdiff1d(np.arange(catalogue), excluded)
    reached = rng.permutation(allowed)[: rng.integers(len(allowed) + 1)].astype(np.int32)
    n = len(reached)
    found = Candidates(
        reached,
        rng.integers(4, size=n).astype(np.float32),
        rng.integers(4, size=n).astype(np.float32),
        rng.random(n) < 0.3,
    )
    order = rng.permutation(catalogue).astype(np.int32)
    slate = draw(found, limit, randomise_over, rng, order, excluded)

    length, places = min(limit, len(allowed)), min(limit, n)
    assert [len(array) for array in slate[:5]] == [length] * 5
    assert [array.dtype for array in slate[:5]] == [np.int32, np.float32, np.float32, np.float32, np.uint8]
    assert len(set(slate.items.tolist())) == length
    assert not set(slate.items.tolist()) & set(excluded.tolist())

    at = {item: index for index, item in enumerate(reached.tolist())}
    chosen = [at[item] for item in slate.items[:places].tolist()]
    np.testing.assert_array_equal(slate.scores[:places], found.scores[chosen])
    np.testing.assert_array_equal(slate.means[:places], found.means[chosen])
    assert (slate.sources[:places] != Source.FALLBACK).all()
    if slate.randomised_over:
        np.testing.assert_array_equal(slate.propensities[:places], np.float32(places / slate.randomised_over))
    else:
        assert np.isnan(slate.propensities).all()

    chosen_items = set(slate.items[:places].tolist())
    rest = [item for item in order.tolist() if item not in chosen_items | set(excluded.tolist())]
    assert slate.items[places:].tolist() == rest[: length - places]
    assert (slate.sources[places:] == Source.FALLBACK).all()
    assert np.isnan(np.stack(slate[1:4])[:, places:]).all()


def test_without_randomising_the_best_come_in_order() -> None:
    slate = draw(candidates([0.1, 0.4, 0.2, 0.4]), 3, 0, np.random.default_rng(0), NONE, NONE)
    assert slate.items.tolist() == [1, 3, 2]
    assert slate.sources.tolist() == [Source.EXPLOIT] * 3
    assert slate.randomised_over == 0


def test_untouched_items_go_first_in_random_order() -> None:
    found = candidates([0.9, 0.1, 0.8, 0.2, 0.3], untouched=[1, 3, 4])
    rng = np.random.default_rng(0)
    slates = [draw(found, 4, 0, rng, NONE, NONE).items.tolist() for _ in range(200)]
    assert {tuple(sorted(slate[:3])) for slate in slates} == {(1, 3, 4)}
    assert {slate[3] for slate in slates} == {0}
    assert len({tuple(slate[:3]) for slate in slates}) == 6


def test_every_one_of_the_k_best_is_shown_at_its_propensity() -> None:
    included, first, slate = frequencies(candidates([0.6, 0.1, 0.5, 0.4, 0.2, 0.3]), limit=2, randomise_over=5)
    assert included == pytest.approx([0.4, 0, 0.4, 0.4, 0.4, 0.4], abs=0.03)
    assert first == pytest.approx([0.2, 0, 0.2, 0.2, 0.2, 0.2], abs=0.03)
    assert slate.propensities.tolist() == pytest.approx([0.4, 0.4])
    assert slate.sources.tolist() == [Source.EXPLORE] * 2
    assert slate.randomised_over == 5


def test_more_untouched_items_than_k_share_the_places_evenly() -> None:
    found = candidates([0.1] * 8, untouched=[0, 1, 2, 3, 4, 5])
    included, first, slate = frequencies(found, limit=2, randomise_over=3)
    assert included == pytest.approx([2 / 6] * 6 + [0, 0], abs=0.03)
    assert first == pytest.approx([1 / 6] * 6 + [0, 0], abs=0.03)
    assert slate.propensities.tolist() == pytest.approx([2 / 6] * 2)
    assert slate.randomised_over == 6


def test_every_candidate_has_its_chance() -> None:
    included, _, slate = frequencies(candidates([0.6, 0.1, 0.5, 0.4]), limit=1, randomise_over=EVERY_CANDIDATE)
    assert included == pytest.approx([0.25] * 4, abs=0.03)
    assert slate.propensities.tolist() == [0.25]


def test_fewer_candidates_than_places_are_all_certain() -> None:
    included, first, slate = frequencies(candidates([0.6, 0.1, 0.5]), limit=5, randomise_over=20)
    assert included == [1.0] * 3
    assert first == pytest.approx([1 / 3] * 3, abs=0.03)
    assert slate.propensities.tolist() == [1.0] * 3
    assert slate.sources.tolist() == [Source.EXPLOIT] * 3
    assert slate.randomised_over == 3


def test_what_only_its_bonus_brought_in_is_exploration() -> None:
    found = candidates([0.9, 0.8, 0.7, 0.1], means=[0.1, 0.5, 0.4, 0.1])
    slate = draw(found, 2, 0, np.random.default_rng(0), NONE, NONE)
    assert slate.items.tolist() == [0, 1]
    assert slate.sources.tolist() == [Source.EXPLORE, Source.EXPLOIT]


def test_a_context_without_candidates_is_filled_up() -> None:
    order, excluded = np.array([3, 1, 0, 2], dtype=np.int32), np.array([1, 99], dtype=np.int32)
    slate = draw(candidates([]), 2, 20, np.random.default_rng(0), order, excluded)
    assert slate.items.tolist() == [3, 0]
    assert slate.randomised_over == 0


def test_the_logging_slice_is_a_share_of_requests() -> None:
    rng = np.random.default_rng(0)
    sizes = [logging_slice(0, 0.1, 20, rng) for _ in range(4000)]
    assert set(sizes) == {0, 20}
    assert np.mean(np.array(sizes) > 0) == pytest.approx(0.1, abs=0.02)
    assert {logging_slice(0, 0.0, 20, rng) for _ in range(100)} == {0}
    assert {logging_slice(0, 1.0, 20, rng) for _ in range(100)} == {20}


@pytest.mark.parametrize("own", [20, EVERY_CANDIDATE])
def test_a_policy_that_randomises_anyway_is_left_as_it_is(own: int) -> None:
    assert logging_slice(own, 1.0, 5, np.random.default_rng(0)) == own
