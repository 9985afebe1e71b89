import asyncio
from typing import Any

import orjson
import pytest
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from service.api.access import Access, needed
from service.settings import ApiKey, Right

READER, WRITER, OPERATOR = "reader-0123456789", "writer-0123456789", "operator-0123456789"
KEYS = [
    ApiKey(name="web", key=READER, scopes={"read"}),
    ApiKey(name="shop", key=WRITER, scopes={"read", "write"}),
    ApiKey(name="operator", key=OPERATOR, scopes={"admin"}),
]


async def behind(scope: Scope, receive: Receive, send: Send) -> None:
    await Response(b'"answered"')(scope, receive, send)


def ask(method: str, path: str, authorization: str | None) -> tuple[int, Any, dict[bytes, bytes]]:
    sent = list[Message]()

    async def receive() -> Message:
        raise AssertionError("nobody reads a body before the key is known")

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [] if authorization is None else [(b"authorization", authorization.encode())]
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(Access(behind, KEYS)(scope, receive, send))
    return sent[0]["status"], orjson.loads(sent[1]["body"]), dict(sent[0]["headers"])


@pytest.mark.parametrize(
    ("method", "path", "right"),
    [
        ("POST", "/v1/recommendations", Right.READ),
        ("POST", "/v1/recommendations:batch", Right.READ),
        ("GET", "/v1/items/a/b", Right.READ),
        ("HEAD", "/v1/items/a", Right.READ),
        ("GET", "/v1/bundles", Right.READ),
        ("POST", "/v1/events", Right.WRITE),
        ("PUT", "/v1/items/a", Right.WRITE),
        ("DELETE", "/v1/users/a", Right.WRITE),
        ("POST", "/v1/bundles/v:activate", Right.ADMIN),
        ("DELETE", "/v1/bundles/v", Right.ADMIN),
        ("POST", "/v1/whatever/comes", Right.ADMIN),
        ("GET", "/elsewhere", Right.ADMIN),
    ],
)
def test_every_request_needs_a_right(method: str, path: str, right: Right) -> None:
    assert needed(method, path) is right


@pytest.mark.parametrize(
    ("key", "reads", "writes", "administers"),
    [(READER, 200, 403, 403), (WRITER, 200, 200, 403), (OPERATOR, 403, 403, 200)],
)
def test_a_key_has_its_rights_and_no_others(key: str, reads: int, writes: int, administers: int) -> None:
    bearer = f"Bearer {key}"
    assert ask("POST", "/v1/recommendations", bearer)[0] == reads
    assert ask("POST", "/v1/events", bearer)[0] == writes
    status, told, _ = ask("POST", "/v1/bundles/v:activate", bearer)
    assert status == administers
    if status == 403:
        assert "scope 'admin'" in told["detail"]


@pytest.mark.parametrize("authorization", [None, "", "Bearer", "Bearer ", f"Basic {READER}", "Bearer ümlaut", READER])
def test_without_a_known_key_nothing_is_answered(authorization: str | None) -> None:
    status, told, headers = ask("POST", "/v1/recommendations", authorization)
    assert (status, told["title"]) == (401, "Unauthorized")
    assert headers[b"www-authenticate"] == b"Bearer"
    assert headers[b"content-type"] == b"application/problem+json"


def test_the_scheme_is_written_as_one_likes() -> None:
    assert ask("POST", "/v1/recommendations", f"bearer {READER}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/health/live", "/health/ready", "/metrics", "/docs", "/openapi.json", "/", "/console/"]
)
def test_health_metrics_documentation_and_the_page_itself_are_open(path: str) -> None:
    assert ask("GET", path, None)[0] == 200
