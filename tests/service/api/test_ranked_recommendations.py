"""Recommendations with RANKER=on: the same resource, what the ranker changes."""

from pathlib import Path

import numpy as np
import pytest

from service.settings import Arm
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.rankers import foreseen, ranked_bundle
from tests.service.servers import PrivateValkey, until

KNOWN, OTHER, ITEMS = "user-0", "user-12", 60
FRESH = ITEMS // 10


def explained(loop: Loop, user_id: str = KNOWN, **asked: object) -> dict[int, dict[str, float]]:
    """Explanations of all candidates by item number, in the slate's order."""
    slate = loop.recommend(user_id=user_id, limit=ITEMS, explain=True, **asked)
    numbers = loop.bundle.item_numbers
    return {
        numbers[item["item_id"]]: {**item["explanation"], "score": item["score"]}
        for item in slate["items"]
        if item["explanation"] is not None
    }


def expected(loop: Loop, logits: np.ndarray, items: list[int]) -> np.ndarray:
    """What the ranker believes of these candidates of user 0, by its definition."""
    bundle = loop.bundle
    context = bundle.context(KNOWN)
    assert context is not None
    prior = np.zeros((bundle.graph.num_clusters, ITEMS))
    prior[bundle.graph.clusters, bundle.graph.items] = bundle.prior.probability
    believed = (context.weights / 2**15 @ prior[context.clusters])[items]
    odds = np.exp(logits[items]) / np.exp(logits[items]).sum() * believed.sum()
    return np.asarray(odds / (1 + odds))


def test_where_nobody_has_answered_the_ranker_orders_the_slate(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on")
    told = explained(loop)
    items = list(told)
    belief = np.array([found["belief"] for found in told.values()])
    assert belief == pytest.approx(expected(loop, foreseen(0, [7]), items), rel=1e-4)
    # An edge is believed at most certain, which may lower a belief a little.
    means = np.array([found["mean"] for found in told.values()])
    assert (means <= belief * (1 + 1e-5)).all()
    untouched = means >= belief * (1 - 1e-5)
    assert untouched.mean() > 0.8
    for found in told.values():
        assert found["mean"] + found["bonus"] == pytest.approx(found["score"], abs=1e-6)
    known = [item for item, free in zip(items, untouched, strict=True) if free and item < ITEMS - FRESH]
    logits = foreseen(0, [7])[known]
    assert (np.diff(logits) < 1e-6).all()  # fresh items have a bonus of their own


def test_what_was_answered_lately_is_history_and_clicks_count_against_the_belief(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on")
    before = explained(loop)
    chosen = list(before)[3]
    slate = loop.recommend(user_id=KNOWN, limit=ITEMS)
    item_id = loop.bundle.item_ids[chosen]
    token = slate["attribution_token"]
    loop.send({"type": "reward", "attribution_token": token, "item_id": item_id, "name": "click"})
    loop.fold()
    after = explained(loop)
    items = list(after)
    belief = np.array([found["belief"] for found in after.values()])
    assert belief == pytest.approx(expected(loop, foreseen(0, [chosen, 7]), items), rel=1e-4)
    assert after[chosen]["mean"] > after[chosen]["belief"]
    assert after[chosen]["impressions"] > 0


def test_users_without_a_history_are_ranked_by_what_else_is_known(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on")
    for asked in ({"user_id": OTHER}, {"user_id": "never seen"}, {"session_id": "s"}, {}):
        slate = loop.recommend(limit=5, explain=True, **asked)
        assert slate["degraded"] == []
        assert (slate["fallback"] is None) == (asked == {"user_id": OTHER})
        assert all(item["explanation"]["belief"] > 0 for item in slate["items"])


def test_propensities_are_those_of_the_ranked_candidates(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on", logging_share=1.0, logging_k=8)
    told = explained(loop)
    best = set(sorted(told, key=lambda item: -told[item]["score"])[:8])
    numbers = loop.bundle.item_numbers
    drawn = [loop.recommend(user_id=KNOWN, limit=4)["items"] for _ in range(10)]
    assert {numbers[item["item_id"]] for slate in drawn for item in slate} <= best
    assert {item["propensity"] for slate in drawn for item in slate} == {0.5}


def test_without_being_asked_the_ranker_says_nothing(make_loop: MakeLoop) -> None:
    assert all(found["belief"] is None for found in explained(make_loop(ranked_bundle())).values())


def test_an_arm_whose_scores_are_no_such_belief_is_left_alone(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on", arms=[Arm(name="one", policy="greedy")])
    assert all(found["belief"] is None for found in explained(loop).values())


def test_excluded_items_do_not_appear_and_places_are_filled(make_loop: MakeLoop) -> None:
    loop = make_loop(ranked_bundle(), ranker="on")
    first = loop.recommend(user_id=KNOWN, limit=3)["items"]
    slate = loop.recommend(user_id=KNOWN, limit=200, exclude_item_ids=[item["item_id"] for item in first])
    assert len({item["item_id"] for item in slate["items"]}) == ITEMS - 3
    everything = loop.bundle.item_ids
    assert loop.recommend(user_id=KNOWN, exclude_item_ids=everything)["items"] == []


def test_without_redis_the_answer_says_what_the_ranker_was_not_told(make_loop: MakeLoop, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        loop = make_loop(ranked_bundle(), redis_url=server.url, ranker="on")
        assert loop.recommend(user_id=KNOWN)["degraded"] == []
        server.kill()
        blind = loop.recommend(user_id=KNOWN, explain=True)
        assert blind["degraded"] == ["recent"]
        assert blind["items"][0]["explanation"]["belief"] > 0
        assert loop.recommend()["degraded"] == []
        server.start()
        until(lambda: loop.recommend(user_id=KNOWN)["degraded"] == [])


def test_a_bundle_without_a_ranker_is_served_and_readiness_says_so(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), ranker="on")
    assert len(loop.recommend(user_id=KNOWN)["items"]) == 10
    told = loop.client.get("/health/ready").json()["dependencies"]["bundle"]
    assert told["ok"]
    assert "RANKER=on, but" in told["detail"]
