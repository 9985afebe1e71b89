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


EXPECTED = (Problem, ValidationError, HTTPException)


def invalid(errors: Sequence[Mapping[str, Any]]) -> Problem:
    """A request that does not fit its model, from pydantic's list of errors: each fault by its place."""
    faults = [{"at": ".".join(map(str, error["loc"])), "fault": error["msg"]} for error in errors]
    first = f"{faults[0]['at']}: {faults[0]['fault']}".lstrip(": ")
    return Problem(422, "The request does not fit", first, faults=faults)


def of(error: Exception) -> Response:
    """The answer to an error that a request may meet."""
    if isinstance(error, Problem):
        return error.response()
    if isinstance(error, ValidationError):
        return invalid(error.errors(include_url=False, include_input=False)).response()
    if isinstance(error, RequestValidationError):
        return invalid(error.errors()).response()
    if isinstance(error, HTTPException):
        title = HTTPStatus(error.status_code).phrase
        return Problem(error.status_code, title, str(error.detail)).response(error.headers)
    return Problem(500, "Internal Server Error", "unexpected; the server's log says more").response()


def install(app: FastAPI) -> None:
    """Answer every error of this app as problem details."""

    async def answer(_request: Request, error: Exception) -> Response:
        return of(error)

    for kind in (*EXPECTED, RequestValidationError, Exception):
        app.add_exception_handler(kind, answer)
