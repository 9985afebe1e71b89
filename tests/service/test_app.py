from collections.abc import Callable
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.api.access import Access
from service.api.direct import DirectPath
from service.app import create_app, direct
from service.serving import Serving
from service.settings import Settings
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop


def resolved(document: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    """A schema behind its reference."""
    while "$ref" in schema:
        found: Any = document
        for part in schema["$ref"].removeprefix("#/").split("/"):
            found = found[part]
        schema = found
    return schema


def test_it_comes_up_without_anything_around_it(make_loop: MakeLoop) -> None:
    loop = make_loop(None, redis_url="redis://127.0.0.1:1")
    assert loop.client.get("/health/live").status_code == 200
    assert loop.client.get("/docs").status_code == 200


def test_it_serves_within_its_lifespan_alone(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle())
    assert isinstance(loop.serving, Serving)
    assert loop.recommend()["items"]


def test_keys_stand_in_front_of_everything_where_there_are_any(settings: Callable[..., Settings]) -> None:
    keys = [{"name": "web", "key": "0123456789abcdef", "scopes": ["read"]}]
    for chosen, kind in ((settings(), DirectPath), (settings(api_keys=keys), Access)):
        assert type(direct(create_app(chosen, "redis://127.0.0.1:1"), chosen)) is kind


@pytest.fixture
def document(loop: Loop) -> dict[str, Any]:
    told: dict[str, Any] = loop.client.get("/openapi.json").json()
    return told


def test_every_resource_is_documented(document: dict[str, Any]) -> None:
    assert document["paths"].keys() == {
        "/v1/recommendations",
        "/v1/events",
        "/v1/items/{item_id}",
        "/v1/bundles",
        "/v1/bundles/{version}:activate",
        "/v1/bundles/{version}:rollback",
        "/v1/bundles:unpin",
        "/health/live",
        "/health/ready",
        "/metrics",
    }


def test_the_body_of_a_recommendation_is_documented(document: dict[str, Any]) -> None:
    route = document["paths"]["/v1/recommendations"]["post"]
    body = resolved(document, route["requestBody"]["content"]["application/json"]["schema"])
    assert body["properties"].keys() == {
        "user_id",
        "session_id",
        "context",
        "limit",
        "exclude_item_ids",
        "exclude_seen",
        "arm",
        "explain",
    }
    assert (body["properties"]["limit"]["minimum"], body["properties"]["limit"]["maximum"]) == (1, 200)
    answer = resolved(document, route["responses"]["200"]["content"]["application/json"]["schema"])
    assert {"recommendation_id", "attribution_token", "items", "fallback", "degraded"} <= answer["properties"].keys()


def test_the_body_of_events_is_documented(document: dict[str, Any]) -> None:
    route = document["paths"]["/v1/events"]["post"]
    assert {"202", "422", "503"} <= route["responses"].keys()
    one, several = route["requestBody"]["content"]["application/json"]["schema"]["anyOf"]
    assert several["items"] == one
    assert [kind["properties"]["type"]["const"] for kind in one["oneOf"]] == ["impression", "reward"]
    answer = resolved(document, route["responses"]["202"]["content"]["application/json"]["schema"])
    assert answer["properties"].keys() == {"events"}


def test_every_reference_of_the_document_leads_somewhere(document: dict[str, Any]) -> None:
    def check(part: Any) -> int:
        if isinstance(part, list):
            return sum(map(check, part))
        if not isinstance(part, dict):
            return 0
        if "$ref" in part:
            resolved(document, part)
            return 1
        return sum(check(value) for value in part.values())

    assert check(document) > 0


def seconds(route: str, status: int) -> float:
    labels = {"route": route, "status": str(status)}
    return REGISTRY.get_sample_value("om_request_seconds_count", labels) or 0


def test_every_answer_is_timed_by_its_route(loop: Loop) -> None:
    before = seconds("/v1/items/{item_id:path}", 200), seconds("/v1/items/{item_id:path}", 404), seconds("unknown", 404)
    loop.item("item-0")
    loop.client.get("/v1/items/nothing")
    loop.client.get("/nowhere")
    after = seconds("/v1/items/{item_id:path}", 200), seconds("/v1/items/{item_id:path}", 404), seconds("unknown", 404)
    assert after == tuple(count + 1 for count in before)
