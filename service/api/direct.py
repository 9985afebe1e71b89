"""Direct paths: the hot ones, whose endpoints read their body and write their answer by hand."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import structlog
from fastapi import FastAPI
from prometheus_client import Histogram
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service import metrics
from service.api import problems
from service.api.problems import Problem
from service.serving import Serving

logger = structlog.get_logger(__name__)
MOST_BYTES = 900_000  # events of a request become one record, and a record of Kafka's holds 1 MB
Endpoint = Callable[[Serving, bytes], Awaitable[Response]]


def json_body(schema: dict[str, Any]) -> dict[str, Any]:
    """`openapi_extra` of a route that reads its body by hand.

    Definitions stand in the place of references to them, which would lead nowhere in the whole document.
    """
    definitions = schema.get("$defs", {})

    def in_place(part: Any) -> Any:
        if isinstance(part, list):
            return [in_place(element) for element in part]
        if not isinstance(part, dict):
            return part
        if "$ref" in part:
            return in_place(definitions[part["$ref"].removeprefix("#/$defs/")])
        return {name: in_place(value) for name, value in part.items() if name not in ("$defs", "discriminator")}

    return {"requestBody": {"required": True, "content": {"application/json": {"schema": in_place(schema)}}}}


class DirectPath:
    """Answers hot paths before the application sees them.

    Its middleware, router and unpacking take as long as such a request; their endpoints need none of it. The same
    endpoints are routes of the application, too: for the documentation, and wherever this stands not before it.
    """

    def __init__(self, app: FastAPI, endpoints: Mapping[tuple[str, str], Endpoint]) -> None:
        """`endpoints` by method and path; each takes what serves and the body, and answers a response."""
        self._app = app
        self._endpoints = endpoints
        self._histograms: dict[tuple[str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        endpoint = self._endpoints.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if endpoint is None:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        try:
            response = await endpoint(self._app.state.serving, await _read(receive))
        except problems.EXPECTED as error:
            response = problems.of(error)
        except Exception as error:
            logger.exception("a request failed", path=scope["path"])
            response = problems.of(error)
        await response(scope, receive, send)
        key = (scope["path"], response.status_code)
        if key not in self._histograms:
            self._histograms[key] = metrics.REQUEST_SECONDS.labels(key[0], str(key[1]))
        self._histograms[key].observe(time.perf_counter() - started)


class Json(Response):
    """An answer that is JSON already: its headers take no encoding."""

    def __init__(self, content: bytes, status_code: int = 200) -> None:
        self.status_code = status_code
        self.background = None
        self.body = content
        self.raw_headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]


async def _read(receive: Receive) -> bytes:
    """The whole body. Raises Problem where it is too long or the client is gone."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise Problem(400, "Bad Request", "the client left before its request was whole")
        body += message.get("body", b"")
        more = message.get("more_body", False)
        if len(body) > MOST_BYTES:
            raise Problem(413, "Content Too Large", f"a request has at most {MOST_BYTES} bytes")
    return body
