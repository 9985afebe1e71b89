"""Errors as RFC 9457 problem details."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

import orjson
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
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

    def response(self, headers: Mapping[str, str] | None = None) -> Response:
        """The answer."""
        body = {"type": "about:blank", "title": self.title, "status": self.status, "detail": str(self), **self.more}
        retry = {} if self.retry_after_s is None else {"Retry-After": str(self.retry_after_s)}
        return Response(orjson.dumps(body), self.status, {**(headers or {}), **retry}, MEDIA_TYPE)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """A request that does not fit its model, from pydantic's list of errors: each fault by its place."""
    faults = [{"at": ".".join(map(str, error["loc"])), "fault": error["msg"]} for error in errors]
    first = f"{faults[0]['at']}: {faults[0]['fault']}".lstrip(": ")
    return Problem(422, "The request does not fit", first, faults=faults)


def install(app: FastAPI) -> None:
    """Answer every error of this app as problem details."""

    @app.exception_handler(Problem)
    async def _problem(_request: Request, error: Problem) -> Response:
        return error.response()

    @app.exception_handler(HTTPException)
    async def _http(_request: Request, error: HTTPException) -> Response:
        title = HTTPStatus(error.status_code).phrase
        return Problem(error.status_code, title, str(error.detail)).response(error.headers)

    @app.exception_handler(ValidationError)
    async def _validation(_request: Request, error: ValidationError) -> Response:
        return invalid(error.errors(include_url=False, include_input=False)).response()

    @app.exception_handler(RequestValidationError)
    async def _request_validation(_request: Request, error: RequestValidationError) -> Response:
        return invalid(error.errors()).response()

    @app.exception_handler(Exception)
    async def _unexpected(_request: Request, _error: Exception) -> Response:
        return Problem(500, "Internal Server Error", "unexpected; the server's log says more").response()
