import re
from typing import Any

import pytest
from fastapi import FastAPI
from starlette.testclient import TestClient

from service.api import problems
from service.api.problems import Problem
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop


def check(answer: Any, status: int) -> dict[str, Any]:
    """Every error is RFC 9457's problem+json."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body: dict[str, Any] = answer.json()
    assert body.keys() >= {"type", "title", "status", "detail"}
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


@pytest.mark.parametrize("path", ["/nowhere", "/v1", "/v1/recommendation", "/v2/events"])
def test_an_unknown_route(loop: Loop, path: str) -> None:
    assert check(loop.client.get(path), 404)["title"] == "Not Found"


@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/events"), ("PUT", "/v1/recommendations")])
def test_a_method_that_is_not_allowed(loop: Loop, method: str, path: str) -> None:
    answer = loop.client.request(method, path)
    assert check(answer, 405)["title"] == "Method Not Allowed"
    assert answer.headers["allow"] == "POST"


@pytest.mark.parametrize("path", ["/v1/recommendations", "/v1/events"])
@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b'"text"', b"null", b"1", b'{"user_id": "\\ud800"}'])
def test_a_body_that_is_not_ours(loop: Loop, path: str, body: bytes) -> None:
    told = check(loop.client.post(path, content=body), 422)
    assert told["title"] == "The request does not fit"
    assert told["faults"]
    assert told["detail"].endswith(told["faults"][0]["fault"])


def test_faults_name_their_places_but_not_what_was_sent(loop: Loop) -> None:
    told = check(loop.ask(limit=0, user_id=7, exclude_item_ids=["fine", "", "secret" * 1000]), 422)
    assert [fault["at"] for fault in told["faults"]] == ["user_id", "limit", "exclude_item_ids.1", "exclude_item_ids.2"]
    assert "secret" not in str(told)


def test_no_bundle_yet_says_when_to_come_again(make_loop: MakeLoop) -> None:
    answer = make_loop(None).ask(user_id="anybody")
    assert check(answer, 503)["title"] == "No bundle yet"
    assert answer.headers["retry-after"] == "1"


def test_what_nobody_expected_is_a_problem_too_and_tells_nothing() -> None:
    app = FastAPI()
    problems.install(app)

    @app.get("/broken")
    def broken() -> None:
        raise RuntimeError("the password is …")

    told = check(TestClient(app, raise_server_exceptions=False).get("/broken"), 500)
    assert "password" not in str(told)


def test_a_problem_carries_more_where_that_helps() -> None:
    answer = Problem(429, "Too fast", "wait", retry_after_s=3, limit=5).response({"X-Other": "kept"})
    assert (answer.headers["retry-after"], answer.headers["x-other"]) == ("3", "kept")
    assert re.search(rb'"limit":5', bytes(answer.body))
    assert "retry-after" not in Problem(404, "Nothing", "here").response().headers


def test_every_refusal_is_a_problem(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle())
    check(loop.ask(arm="no such arm"), 422)
    check(loop.ask(context={"version": "old", "clusters": [1], "weights": [1]}), 409)
    check(loop.client.get("/v1/items/none"), 404)
    check(loop.client.get("/v1/items/item-0?view=none"), 422)
    check(loop.client.post("/v1/events", json=[]), 422)
