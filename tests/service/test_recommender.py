from collections.abc import Callable

import numpy as np
import pytest

from bandit.bundle import Bundle
from bandit.context import Context
from service import pseudonym
from service import token as tokens
from service.recommender import NOTHING, Recommender, Served
from service.replica import Replica
from service.settings import Arm, Settings
from service.store.redis import Store
from tests.bundles import small_bundle

ARM = Arm(name="default")
USER, EPOCH = b"u" * 16, b"e" * 16
MakeRecommender = Callable[..., Recommender]


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def make(bundle: Bundle, store: Store, settings: Callable[..., Settings]) -> MakeRecommender:
    """Makes recommenders over a replica that knows the prior alone."""

    def make(**changes: object) -> Recommender:
        chosen = settings(**{"seed": 0, "logging_share": 0} | changes)
        return Recommender(chosen, bundle, Replica(bundle, chosen.arms, store, {}))

    return make


def serve(recommender: Recommender, limit: int = 10, excluded: object = NOTHING, **changes: object) -> Served:
    context = Context(np.array([4, 1, 6], dtype=np.int32), np.array([16384, 12288, 4096], dtype=np.int32))
    asked = {"arm": ARM, "user": USER, "context": context, "limit": limit, "epoch": EPOCH, "excluded": excluded}
    return recommender.serve(**asked | changes)  # type: ignore[arg-type]


def test_ids_become_numbers_and_unknown_ones_nothing(make: MakeRecommender, bundle: Bundle) -> None:
    recommender = make()
    assert recommender.numbers([bundle.item_ids[7], "no such item", bundle.item_ids[0]]).tolist() == [7, 0]
    assert recommender.numbers([]).tolist() == []


def test_pseudonyms_become_all_the_numbers_they_may_stand_for(make: MakeRecommender, bundle: Bundle) -> None:
    recommender = make()
    key = b"development-only"
    hashes = pseudonym.of_items(bundle.item_ids, key)
    for number in (0, 17, 59):
        assert recommender.numbers_of(hashes[[number]]).tolist() == [number]
    assert sorted(recommender.numbers_of(hashes).tolist()) == list(range(60))
    unknown = np.array([pseudonym.of_item("no such item", key)], dtype=np.uint32)
    assert recommender.numbers_of(unknown).tolist() == []
    assert recommender.numbers_of(hashes[:0]).tolist() == []


def test_two_items_of_one_pseudonym_are_both_meant(
    make: MakeRecommender, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes = np.arange(60, dtype=np.uint32) // 2
    monkeypatch.setattr(pseudonym, "of_items", lambda *_: hashes)
    recommender = make()
    assert sorted(recommender.numbers_of(np.array([3, 29], dtype=np.uint32)).tolist()) == [6, 7, 58, 59]


def test_the_token_says_what_was_served(make: MakeRecommender, bundle: Bundle) -> None:
    recommender = make(token_keys={3: "old", 9: "new"}, token_key=9, token_life_s=77)
    served = serve(recommender, limit=4)
    token = tokens.decode(served.attribution_token, {9: b"new"})
    assert (token.user, token.epoch, token.life_s, token.randomised_over) == (USER, EPOCH, 77, 0)
    assert token.recommendation_id == served.recommendation_id
    numbers = recommender.numbers_of(token.items)
    assert [bundle.item_ids[number] for number in numbers] == served.item_ids
    assert token.clusters.tolist() == [4, 1, 6]
    assert token.weights.tolist() == [16384, 12288, 4096]
    assert token.flags.tolist() == [0] * 4
    assert token.slots.tolist() == served.edges.tolist()
    assert serve(recommender).recommendation_id != served.recommendation_id


def test_the_logging_slice_is_marked_in_the_token(make: MakeRecommender) -> None:
    recommender = make(logging_share=1, logging_k=12)
    served = serve(recommender, limit=5)
    token = tokens.decode(served.attribution_token, {1: b"development-only"})
    assert token.randomised_over == 12
    assert token.flags.tolist() == [tokens.HAS_PROPENSITY] * 5
    back_filled = tokens.decode(serve(recommender, limit=60).attribution_token, {1: b"development-only"})
    assert set(back_filled.flags.tolist()) == {tokens.HAS_PROPENSITY, 0}


def test_the_same_seed_draws_the_same_slates(make: MakeRecommender) -> None:
    drawn = [
        [serve(recommender).item_ids for _ in range(5)]
        for recommender in (make(logging_share=1, seed=s) for s in (1, 1, 2))
    ]
    assert drawn[0] == drawn[1]
    assert drawn[0] != drawn[2]


def test_everything_excluded_is_an_empty_slate_with_a_token(make: MakeRecommender, bundle: Bundle) -> None:
    recommender = make()
    served = serve(recommender, excluded=np.arange(60, dtype=np.int32))
    assert served.item_ids == []
    assert len(tokens.decode(served.attribution_token, {1: b"development-only"}).items) == 0
    assert recommender.explain(served, ARM, bundle.population) == []
