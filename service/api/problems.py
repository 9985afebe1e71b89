"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import FastAPI, Request
from pydantic import ValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):  # noqa: N818 - RFC 9457's own word
    """An error for the caller: what is wrong, and what to do."""

    def __init__(self, status: int, title: str, detail: str, *, retry_after_s: int | None = None, **more: Any) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.retry_after_s = retry_after_s
        self.more = more

    def response(self) -> Response:
        """The answer."""
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": str(self), **self.more}
        headers = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Response(orjson.dumps(body), self.status, headers, MEDIA_TYPE)


def invalid(error: ValidationError) -> Problem:
    """A body that does not fit its model: each fault by its place."""
    faults = [
        {"at": ".".join(map(str, fault["loc"])), "fault": fault["msg"]}
        for fault in error.errors(include_url=False, include_input=False)
    ]
    first = f"{faults[0]['at']}: {faults[0]['fault']}".lstrip(": ")
    return Problem(422, "The request does not fit", first, faults=faults)


def install(app: FastAPI) -> None:
    """Answer every error of this app as problem details."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        return Problem(error.status_code, "Not here", str(error.detail)).response()

    @app.exception_handler(ValidationError)
    async def _validation(_request: Request, error: ValidationError) -> Response:
        return invalid(error).response()
