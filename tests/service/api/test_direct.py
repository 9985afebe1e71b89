import asyncio
from typing import Annotated, Any, cast

import orjson
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import BaseModel, Field
from starlette.responses import Response
from starlette.types import Message

from service.api.direct import MOST_BYTES, DirectPath, Json, json_body
from service.api.problems import Problem
from service.serving import Serving


class Leaf(BaseModel):
    """Something small."""

    kind: str


class Tree(BaseModel):
    """Something that holds it, twice."""

    left: Leaf
    others: Annotated[list[Leaf], Field(max_length=3)]


def test_definitions_stand_in_the_place_of_references() -> None:
    told = json_body(Tree.model_json_schema())["requestBody"]
    assert told["required"] is True
    schema: dict[str, Any] = told["content"]["application/json"]["schema"]
    leaf = Leaf.model_json_schema()
    assert schema["properties"]["left"] == leaf
    assert schema["properties"]["others"]["items"] == leaf
    assert schema["properties"]["others"]["maxItems"] == 3
    assert b"$" not in orjson.dumps(schema)


async def answer(_serving: Serving, body: bytes) -> Response:
    if body == b"problem":
        raise Problem(409, "Conflict", "not now")
    if body == b"bug":
        raise RuntimeError("a bug")
    return Json(b'{"bytes":%d}' % len(body))


def direct() -> DirectPath:
    app = FastAPI()
    app.state.serving = None

    @app.get("/elsewhere")
    async def elsewhere() -> str:
        return "passed on"

    return DirectPath(app, {("POST", "/hot"): answer})


def ask(*messages: Message, method: str = "POST", path: str = "/hot") -> tuple[int, Any]:
    """Status and body of one request that comes in these messages."""
    coming, sent = list(messages), list[Message]()

    async def receive() -> Message:
        return coming.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = {"type": "http", "method": method, "path": path, "headers": [], "query_string": b"", "root_path": ""}
    asyncio.run(direct()(scope, receive, send))
    return cast(int, sent[0]["status"]), orjson.loads(b"".join(message.get("body", b"") for message in sent))


def part(body: bytes, *, more: bool = False) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


def test_a_hot_path_is_answered_from_its_whole_body() -> None:
    assert ask(part(b"abc", more=True), part(b"", more=True), part(b"de")) == (200, {"bytes": 5})


@pytest.mark.parametrize(("method", "path"), [("GET", "/elsewhere"), ("POST", "/elsewhere"), ("GET", "/hot")])
def test_what_is_not_hot_is_passed_on(method: str, path: str) -> None:
    status, _ = ask(part(b""), method=method, path=path)
    assert status == {("GET", "/elsewhere"): 200, ("POST", "/elsewhere"): 405, ("GET", "/hot"): 404}[method, path]


def test_a_problem_is_answered_as_one() -> None:
    assert ask(part(b"problem")) == (
        409,
        {"type": "about:blank", "title": "Conflict", "status": 409, "detail": "not now"},
    )


def test_a_bug_is_an_answer_too_and_is_logged(capsys: pytest.CaptureFixture[str]) -> None:
    status, told = ask(part(b"bug"))
    assert (status, told["title"]) == (500, "Internal Server Error")
    assert "a bug" not in told["detail"]
    assert "a bug" in "".join(capsys.readouterr())


def test_a_body_may_be_as_long_as_a_record_and_no_longer() -> None:
    assert ask(part(b"x" * MOST_BYTES)) == (200, {"bytes": MOST_BYTES})
    status, told = ask(part(b"x" * MOST_BYTES, more=True), part(b"x", more=True))
    assert (status, told["title"]) == (413, "Content Too Large")


def test_a_client_that_leaves_in_mid_body_is_no_bug() -> None:
    assert ask(part(b"x", more=True), {"type": "http.disconnect"})[0] == 400


def test_every_answer_is_measured() -> None:
    def count() -> float:
        labels = {"route": "/hot", "status": "409"}
        return REGISTRY.get_sample_value("om_request_seconds_count", labels) or 0

    before = count()
    ask(part(b"problem"))
    assert count() == before + 1
