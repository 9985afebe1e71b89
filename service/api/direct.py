"""Direct paths: the hot ones, whose endpoints read their body and write their answer by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api import problems


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
    """Middleware that answers hot routes itself, before the router and the layers behind it.

    Those match, unpack and guard for half the time that such a request takes; its endpoint does without them.
    """

    def __init__(self, app: ASGIApp, routes: Sequence[BaseRoute]) -> None:
        """`routes`: routes without parameters, whose endpoints take the request and answer a response."""
        self._app = app
        self._routes = {
            (method, route.path): route
            for route in routes
            if isinstance(route, APIRoute)
            for method in route.methods or ()
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, or pass on."""
        route = self._routes.get((scope["method"], scope["path"])) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        scope["route"] = route
        try:
            response = await route.endpoint(Request(scope, receive))
        except problems.EXPECTED as error:
            response = problems.of(error)
        await response(scope, receive, send)
