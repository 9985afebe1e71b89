"""Access: who may ask what, where API_KEYS says that keys are needed at all."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.problems import Problem
from service.settings import ApiKey, Right

OPEN = ("/health/", "/docs", "/openapi.json", "/metrics", "/console")
# What is not in this table needs the right to administer; so does what nobody thought of.
RIGHTS: tuple[tuple[str, str, Right], ...] = (
    ("POST", "/v1/recommendations", Right.READ),
    ("GET", "/v1/", Right.READ),
    ("POST", "/v1/events", Right.WRITE),
    ("PUT", "/v1/items/", Right.WRITE),
    ("DELETE", "/v1/items/", Right.WRITE),
    ("POST", "/v1/items", Right.WRITE),
    ("PUT", "/v1/users/", Right.WRITE),
    ("DELETE", "/v1/users/", Right.WRITE),
)


class Access:
    """Lets a request through to the application if its key, `Authorization: Bearer …`, has the right to it."""

    def __init__(self, app: ASGIApp, keys: Sequence[ApiKey]) -> None:
        """`keys` are all that there are."""
        self._app = app
        # Looked up by digest, so that the time it takes tells nothing about the keys.
        self._scopes = {_digest(key.key.get_secret_value().encode()): key.scopes for key in keys}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on, or answer 401 (no key that is known) or 403 (one without this right)."""
        if scope["type"] == "http" and scope["path"] != "/" and not scope["path"].startswith(OPEN):
            try:
                self._check(scope)
            except Problem as problem:
                headers = {"WWW-Authenticate": "Bearer"} if problem.status == 401 else None
                await problem.response(headers)(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _check(self, scope: Scope) -> None:
        kind, _, key = Headers(scope=scope).get("authorization", "").partition(" ")
        if kind.lower() != "bearer" or not key:
            raise Problem(401, "Unauthorized", "send a key: `Authorization: Bearer …`, one of API_KEYS")
        scopes = self._scopes.get(_digest(key.strip().encode("latin-1")))
        if scopes is None:
            raise Problem(401, "Unauthorized", "the key is not one of API_KEYS")
        right = needed(scope["method"], scope["path"])
        if right not in scopes:
            raise Problem(403, "Forbidden", f"this needs a key with the scope {right.value!r}")


def needed(method: str, path: str) -> Right:
    """The right that a request needs."""
    method = "GET" if method in ("HEAD", "OPTIONS") else method
    for allowed, prefix, right in RIGHTS:
        if method == allowed and path.startswith(prefix):
            return right
    return Right.ADMIN


def _digest(key: bytes) -> bytes:
    return blake2b(key, digest_size=32).digest()
