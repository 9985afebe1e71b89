import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from prometheus_client import REGISTRY

from bandit.policies import POLICIES
from service import token as tokens
from service.feedback_log.base import LogUnavailable, Position
from service.settings import Arm
from service.token import AttributionToken
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.servers import PrivateValkey, until

ITEMS = 60
KNOWN = "user/1/part a"


def ids(slate: dict[str, Any]) -> list[str]:
    return [item["item_id"] for item in slate["items"]]


def decode(slate: dict[str, Any], loop: Loop) -> AttributionToken:
    return tokens.decode(slate["attribution_token"], loop.settings.verifying_keys)


def whole_context(loop: Loop) -> dict[str, Any]:
    """A context of all clusters, so that every item is a candidate."""
    return {"version": loop.bundle.manifest.version, "clusters": list(range(8)), "weights": [1.0] * 8}


def test_a_known_user_is_served_by_their_own_context(loop: Loop) -> None:
    slate = loop.recommend(user_id=KNOWN)
    assert slate["fallback"] is None
    assert slate["degraded"] == []
    assert (slate["arm"], slate["policy"]) == ("default", "calibrated_diag_linucb")
    assert slate["version"] == loop.bundle.manifest.version
    assert len(set(ids(slate))) == 10
    scores = [item["score"] for item in slate["items"]]
    assert scores == sorted(scores, reverse=True)
    known = loop.bundle.context(KNOWN)
    assert known is not None
    assert decode(slate, loop).clusters.tolist() == known.clusters.tolist()


def test_an_unknown_user_is_served_the_population(loop: Loop) -> None:
    for asked in ({"user_id": "never seen"}, {"session_id": KNOWN}, {}):
        slate = loop.recommend(**asked)
        assert slate["fallback"] == "population"
        assert decode(slate, loop).clusters.tolist() == loop.bundle.population.clusters.tolist()
        assert len(slate["items"]) == 10


def test_the_token_names_the_slate(loop: Loop) -> None:
    slate = loop.recommend(user_id=KNOWN, limit=3)
    token = decode(slate, loop)
    assert token.recommendation_id == slate["recommendation_id"]
    assert token.epoch == loop.serving.epoch
    assert (token.arm, token.namespace, token.version) == ("default", "default", slate["version"])
    assert token.life_s == loop.settings.token_life_s
    assert len(token.items) == 3
    row_starts = loop.bundle.graph.indptr[token.clusters]
    for item_id, slots in zip(ids(slate), token.slots, strict=True):
        edges = (row_starts + slots)[slots >= 0]
        assert set(loop.bundle.graph.items[edges].tolist()) == {loop.bundle.item_numbers[item_id]}
        assert len(edges)


def test_an_explicit_context_overrides_what_is_known(loop: Loop) -> None:
    context = {"version": loop.bundle.manifest.version, "clusters": [5, 2], "weights": [3, 1]}
    slate = loop.recommend(user_id=KNOWN, context=context)
    assert slate["fallback"] is None
    assert decode(slate, loop).clusters.tolist() == [5, 2]
    assert decode(slate, loop).weights.tolist() == [24576, 8192]


def test_a_context_of_another_version_is_a_conflict(loop: Loop) -> None:
    answer = loop.ask(context={"version": "20250101T000000Z", "clusters": [1], "weights": [1]})
    assert answer.status_code == 409
    assert answer.json()["title"] == "Context of another version"
    assert "20250101T000000Z" in answer.json()["detail"]
    assert loop.bundle.manifest.version in answer.json()["detail"]


@pytest.mark.parametrize(
    ("clusters", "weights", "told"),
    [
        ([8], [1], "must lie in [0, 8)"),
        ([-1], [1], "greater than or equal to 0"),
        ([10**30], [1], "less than 2147483648"),
        ([1, 1], [1, 1], "named twice"),
        ([1, 2], [1], "as many weights as clusters"),
        ([1], [0], "not all zero"),
        ([1], [-1], "not negative"),
        ([], [], "at least 1 item"),
        ([0] * 33, [1] * 33, "at most 32 items"),
    ],
)
def test_a_context_that_does_not_fit_is_refused(
    loop: Loop, clusters: list[int], weights: list[float], told: str
) -> None:
    answer = loop.ask(context={"version": loop.bundle.manifest.version, "clusters": clusters, "weights": weights})
    assert answer.status_code == 422
    assert told in answer.json()["detail"]


@pytest.mark.parametrize("number", ["1e400", "NaN", "Infinity"])
def test_weights_are_finite(loop: Loop, number: str) -> None:
    context = json.dumps({"version": loop.bundle.manifest.version, "clusters": [1], "weights": ["?"]})
    body = f'{{"context": {context}}}'.replace('"?"', number)
    assert loop.client.post("/v1/recommendations", content=body).status_code == 422


def test_one_item_and_two_hundred(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(items=250))
    assert len(loop.recommend(user_id=KNOWN, limit=1)["items"]) == 1
    many = loop.recommend(user_id=KNOWN, limit=200)
    assert len(set(ids(many))) == 200
    assert many["items"][-1] == {
        "item_id": ids(many)[-1],
        "score": None,
        "propensity": None,
        "source": "fallback",
    }


def test_the_token_of_the_largest_slate_comes_back(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(items=400, clusters=32, width=400))
    context = {"version": loop.bundle.manifest.version, "clusters": list(range(32)), "weights": [1] * 32}
    slate = loop.recommend(context=context, limit=200)
    assert len(slate["attribution_token"]) > 16384
    said = {"attribution_token": slate["attribution_token"]}
    assert loop.send({"type": "impression"} | said, {"type": "reward", "item_id": ids(slate)[0]} | said) == [
        "accepted",
        "accepted",
    ]
    loop.fold()
    assert loop.item(ids(slate)[0], view="state")["state"][0]["rewards"] == 1


@pytest.mark.parametrize("limit", [0, 201, -1, "many", 1.5])
def test_other_limits_are_refused(loop: Loop, limit: object) -> None:
    answer = loop.ask(user_id=KNOWN, limit=limit)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["at"] == "limit"


@pytest.mark.parametrize(
    "asked",
    [{"user_id": ""}, {"user_id": "u" * 1025}, {"user_id": 1}, {"unknown": 1}, {"exclude_item_ids": ["i"] * 1001}],
)
def test_what_does_not_fit_is_refused_by_its_field(loop: Loop, asked: dict[str, Any]) -> None:
    answer = loop.ask(**asked)
    assert answer.status_code == 422
    assert answer.json()["faults"][0]["at"].startswith(next(iter(asked)))


def test_ids_may_be_long_and_of_any_script(loop: Loop) -> None:
    for user_id in ("u" * 1024, "推薦/ü?#%2F", "\x00", "user with spaces"):
        assert loop.recommend(user_id=user_id)["fallback"] == "population"
    assert loop.recommend(user_id="user ü 2 推薦")["fallback"] is None


def test_excluded_items_do_not_appear(loop: Loop) -> None:
    first = loop.recommend(user_id=KNOWN, limit=ITEMS)
    left_out = ids(first)[:20]
    second = loop.recommend(user_id=KNOWN, limit=ITEMS, exclude_item_ids=[*left_out, "no such item"])
    assert set(ids(second)) == set(loop.bundle.item_ids) - set(left_out)
    assert len(ids(second)) == ITEMS - 20


def test_nothing_left_is_an_empty_slate_with_a_token(loop: Loop) -> None:
    slate = loop.recommend(user_id=KNOWN, exclude_item_ids=loop.bundle.item_ids, explain=True)
    assert slate["items"] == []
    said = {"type": "impression", "attribution_token": slate["attribution_token"]}
    assert loop.send(said) == ["accepted"]
    loop.fold()
    assert not loop.rows("default").any()


def test_seen_items_are_left_out_once_they_are_folded(loop: Loop) -> None:
    slate = loop.recommend(user_id=KNOWN, limit=5)
    shown = {"type": "impression", "attribution_token": slate["attribution_token"], "items": ids(slate)[:3]}
    clicked = {"type": "reward", "attribution_token": slate["attribution_token"], "item_id": ids(slate)[3]}
    assert loop.send(shown, clicked) == ["accepted", "accepted"]
    loop.fold()
    unseen = set(loop.bundle.item_ids) - set(ids(slate)[:4])  # the click implies that its item was shown
    assert set(ids(loop.recommend(user_id=KNOWN, limit=ITEMS, exclude_seen=True))) == unseen
    assert len(ids(loop.recommend(user_id=KNOWN, limit=ITEMS))) == ITEMS
    assert len(ids(loop.recommend(user_id="somebody else", limit=ITEMS, exclude_seen=True))) == ITEMS
    assert len(ids(loop.recommend(session_id=KNOWN, limit=ITEMS, exclude_seen=True))) == ITEMS


def test_nobody_has_seen_nothing(loop: Loop) -> None:
    slate = loop.recommend(limit=5)
    assert loop.send({"type": "impression", "attribution_token": slate["attribution_token"]}) == ["accepted"]
    loop.fold()
    again = loop.recommend(limit=ITEMS, exclude_seen=True)
    assert len(ids(again)) == ITEMS
    assert again["degraded"] == []


def test_without_redis_what_was_seen_is_not_known_and_the_answer_says_so(make_loop: MakeLoop, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        loop = make_loop(small_bundle(), redis_url=server.url)
        slate = loop.recommend(user_id=KNOWN, limit=5)
        loop.send({"type": "impression", "attribution_token": slate["attribution_token"]})
        loop.fold()
        server.kill()
        blind = loop.recommend(user_id=KNOWN, limit=ITEMS, exclude_seen=True)
        assert blind["degraded"] == ["seen"]
        assert len(ids(blind)) == ITEMS
        assert loop.recommend(user_id=KNOWN)["degraded"] == []
        server.start()
        until(lambda: loop.recommend(user_id=KNOWN, exclude_seen=True)["degraded"] == [])
        assert len(ids(loop.recommend(user_id=KNOWN, limit=ITEMS, exclude_seen=True))) == ITEMS - 5


@pytest.mark.parametrize("policy", POLICIES)
def test_an_explanation_adds_up(make_loop: MakeLoop, policy: str) -> None:
    loop = make_loop(small_bundle(), arms=[Arm(name="one", policy=policy)])
    slate = loop.recommend(user_id=KNOWN, limit=ITEMS, explain=True)
    context = decode(slate, loop).clusters.tolist()
    explained = [item for item in slate["items"] if item["source"] != "fallback"]
    assert explained
    for item in explained:
        told = item["explanation"]
        assert told["mean"] + told["bonus"] == pytest.approx(item["score"], abs=1e-6)
        assert told["bonus"] >= 0
        assert told["impressions"] == 0
        assert set(told["clusters"]) == set(context) & set(loop.item(item["item_id"])["clusters"])
    for item in slate["items"][len(explained) :]:
        assert item["score"] is None
        assert item["explanation"] is None


def test_an_explanation_counts_what_was_shown(loop: Loop) -> None:
    for _ in range(3):
        slate = loop.recommend(user_id=KNOWN, limit=1, context=whole_context(loop))
        loop.send({"type": "impression", "attribution_token": slate["attribution_token"]})
    loop.fold()
    again = loop.recommend(user_id=KNOWN, limit=ITEMS, context=whole_context(loop), explain=True)
    shown = {item["item_id"]: item["explanation"]["impressions"] for item in again["items"]}
    reach = len(loop.item(ids(slate)[0])["clusters"]) / 8
    assert sum(shown.values()) == pytest.approx(3 * reach)


def test_without_being_asked_nothing_is_explained(loop: Loop) -> None:
    assert "explanation" not in loop.recommend(user_id=KNOWN)["items"][0]


ARMS = [
    Arm(name="a", policy="greedy", share=1),
    Arm(name="b", policy="popular", share=1, namespace="of-b"),
    Arm(name="by-name", policy="random", share=0),
]


def test_an_arm_may_be_named(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=ARMS)
    for arm in ARMS:
        slate = loop.recommend(user_id=KNOWN, arm=arm.name)
        assert (slate["arm"], slate["policy"]) == (arm.name, arm.policy)
        assert decode(slate, loop).namespace == arm.namespace


def test_an_unknown_arm_is_refused_with_those_there_are(make_loop: MakeLoop) -> None:
    answer = make_loop(small_bundle(), arms=ARMS).ask(user_id=KNOWN, arm="greedy")
    assert answer.status_code == 422
    assert answer.json()["detail"] == "no arm 'greedy'; the experiment table has a, b, by-name"


def test_a_user_stays_in_one_arm_and_users_are_shared_out(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=ARMS)
    first = {user: loop.recommend(user_id=f"user {user}", limit=1)["arm"] for user in range(40)}
    assert {loop.recommend(user_id=f"user {user}", limit=1)["arm"] == arm for user, arm in first.items()} == {True}
    assert set(first.values()) == {"a", "b"}
    assert {loop.recommend(limit=1)["arm"] for _ in range(40)} == {"a", "b"}  # nobody in particular: by chance


def test_a_random_arm_tells_its_propensities(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=ARMS)
    slate = loop.recommend(arm="by-name", limit=6, context=whole_context(loop))
    assert {item["source"] for item in slate["items"]} == {"explore"}
    assert [item["propensity"] for item in slate["items"]] == pytest.approx([6 / ITEMS] * 6)
    assert decode(slate, loop).randomised_over == ITEMS
    assert loop.recommend(arm="by-name", context=whole_context(loop)) != loop.recommend(
        arm="by-name", context=whole_context(loop)
    )


def test_the_logging_slice_is_drawn_from_the_best(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), logging_share=1.0, logging_k=8)
    best = ids(loop.recommend(context=whole_context(loop), limit=8))
    drawn = [loop.recommend(context=whole_context(loop), limit=4) for _ in range(10)]
    assert {item for slate in drawn for item in ids(slate)} <= set(best)
    assert len({tuple(ids(slate)) for slate in drawn}) > 1
    assert {item["propensity"] for slate in drawn for item in slate["items"]} == {0.5}


@pytest.mark.parametrize("shown", [False, True])
def test_served_is_shown_where_the_settings_say_so(make_loop: MakeLoop, shown: bool) -> None:
    loop = make_loop(small_bundle(), served_is_shown=shown)
    slate = loop.recommend(user_id=KNOWN, limit=4)
    if shown:
        until(lambda: appended(loop) == 1)
    loop.fold()
    assert loop.rows("default").any() == shown
    left = loop.recommend(user_id=KNOWN, limit=ITEMS, exclude_seen=True)
    assert set(loop.bundle.item_ids) - set(ids(left)) == (set(ids(slate)) if shown else set())


def test_what_was_served_and_is_not_in_the_log_is_counted(make_loop: MakeLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    loop = make_loop(small_bundle(), served_is_shown=True)
    done: Future[Position] = Future()
    monkeypatch.setattr(loop.serving.log, "append", lambda *_: done)
    before = REGISTRY.get_sample_value("om_served_unlogged_total") or 0
    assert len(loop.recommend(user_id=KNOWN, limit=4)["items"]) == 4
    assert REGISTRY.get_sample_value("om_served_unlogged_total") == before
    done.set_exception(LogUnavailable("the log is full"))
    assert REGISTRY.get_sample_value("om_served_unlogged_total") == before + 4


def appended(loop: Loop) -> int:
    """Records in the log."""
    log = loop.serving.log
    assert log is not None
    return sum(log.bounds(partition)[1] for partition in range(log.partitions))


def test_a_slate_holds_what_it_may_and_is_full_where_it_can_be(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=[Arm(name=name, policy=name) for name in POLICIES], logging_share=0.5)
    items = loop.bundle.item_ids
    seen: dict[str, set[str]] = {KNOWN: set(), "user-0": set(), "unknown": set()}

    @examples(max_examples=60)
    @given(data=st.data())
    def holds(data: st.DataObject) -> None:
        user = data.draw(st.sampled_from(sorted(seen)), "user")
        if data.draw(st.integers(0, 3), "sees something unless") == 0:
            shown = loop.recommend(user_id=user, limit=data.draw(st.integers(1, 4), "shown"))
            assert loop.send({"type": "impression", "attribution_token": shown["attribution_token"]}) == ["accepted"]
            loop.fold()
            seen[user] |= set(ids(shown))
        asked: dict[str, Any] = {
            "user_id": user,
            "arm": data.draw(st.sampled_from(sorted(POLICIES)), "arm"),
            "limit": data.draw(st.integers(1, 200), "limit"),
            "exclude_item_ids": data.draw(st.lists(st.sampled_from([*items, "no such item"]), max_size=80), "excluded"),
            "exclude_seen": data.draw(st.booleans(), "exclude seen"),
        }
        if data.draw(st.booleans(), "context"):
            clusters = data.draw(st.lists(st.integers(0, 7), min_size=1, max_size=8, unique=True), "clusters")
            asked["context"] = whole_context(loop) | {"clusters": clusters, "weights": [1.0] * len(clusters)}

        served = ids(loop.recommend(**asked))

        allowed = set(items) - set(asked["exclude_item_ids"]) - (seen[user] if asked["exclude_seen"] else set())
        assert len(set(served)) == len(served)
        assert set(served) <= allowed
        assert len(served) == min(asked["limit"], len(allowed))

    holds()
