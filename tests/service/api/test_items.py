from typing import Any

import pytest

from service.settings import Arm
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.servers import until

ARMS = [
    Arm(name="learner"),
    Arm(name="same", policy="greedy", namespace="default"),
    Arm(name="alone", policy="popular", namespace="of-alone"),
]


def test_an_item_is_what_the_bundle_says(loop: Loop) -> None:
    graph, prior = loop.bundle.graph, loop.bundle.prior
    for number, item_id in enumerate(loop.bundle.item_ids):
        edges = graph.edges_of(number)
        assert loop.item(item_id) == {
            "item_id": item_id,
            "version": loop.bundle.manifest.version,
            "attributes": {"category": f"category-{number % 5}"},
            "clusters": graph.clusters[edges].tolist(),
            "prior_strength": prior.strength[number],
        }


def test_the_id_is_the_rest_of_the_path(loop: Loop) -> None:
    for path in ("/v1/items/item/1/part%20a", "/v1/items/item%2F1%2Fpart%20a"):
        assert loop.client.get(path).json()["item_id"] == "item/1/part a"


@pytest.mark.parametrize("item_id", ["no such item", "item/1", "item/1/part a/", "", "推薦", "i" * 2000])
def test_an_unknown_item_is_not_found(loop: Loop, item_id: str) -> None:
    answer = loop.client.get(f"/v1/items/{item_id}")
    assert answer.status_code == 404
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["title"] == "Unknown item"
    assert item_id in answer.json()["detail"]


def test_an_unknown_view_is_refused(loop: Loop) -> None:
    answer = loop.client.get("/v1/items/item-0", params={"view": "everything"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"
    assert "view" in answer.json()["detail"]


def test_the_state_of_an_untouched_item_is_the_prior(loop: Loop) -> None:
    (state,) = loop.item("item-0", view="state")["state"]
    edges = loop.bundle.graph.edges_of(0)
    assert (state["arm"], state["policy"], state["namespace"]) == ("default", "calibrated_diag_linucb", "default")
    assert (state["impressions"], state["rewards"]) == (0, 0)
    assert [edge["cluster"] for edge in state["edges"]] == loop.bundle.graph.clusters[edges].tolist()
    assert [edge["prior"] for edge in state["edges"]] == pytest.approx(loop.bundle.prior.probability[edges].tolist())
    assert all(edge["d"] == edge["n"] == edge["b"] == 0 for edge in state["edges"])
    assert all(0 < edge["mean"] <= edge["optimistic"] <= 1 for edge in state["edges"])


def test_the_state_shows_what_one_event_changed(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=ARMS)
    context = {"version": loop.bundle.manifest.version, "clusters": [1, 2], "weights": [0.75, 0.25]}
    slate = loop.recommend(context=context, limit=1, arm="learner", exclude_item_ids=loop.bundle.item_ids[1:])
    assert [item["item_id"] for item in slate["items"]] == ["item-0"]
    before = loop.item("item-0", view="state")["state"]
    said = {"type": "reward", "attribution_token": slate["attribution_token"], "item_id": "item-0"}
    assert loop.send(said) == ["accepted"]
    loop.fold()

    def learned() -> Any:
        return loop.item("item-0", view="state")["state"]

    until(lambda: learned()[0]["edges"] != before[0]["edges"])
    default, same, alone = learned()
    assert {edge["cluster"]: (edge["d"], edge["n"], edge["b"]) for edge in default["edges"]} == {
        1: (0.5625, 0.75, 0.75),
        2: (0.0625, 0.25, 0.25),
        4: (0, 0, 0),
    }
    assert (default["impressions"], default["rewards"]) == (1, 1)
    means = {edge["cluster"]: edge["mean"] for edge in default["edges"]}
    assert all(means[edge["cluster"]] > edge["mean"] for edge in before[0]["edges"] if edge["cluster"] in (1, 2))
    assert [edge["n"] for edge in same["edges"]] == [edge["n"] for edge in default["edges"]]
    assert alone == before[2]


def test_without_a_bundle_there_are_no_items(make_loop: MakeLoop) -> None:
    answer = make_loop(None).client.get("/v1/items/item-0")
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "1"
    assert "python -m offline run" in answer.json()["detail"]
