"""The API as an ASGI application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI
from prometheus_client import Histogram
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service import metrics
from service.api import bundles, console, events, health, items, problems, recommendations
from service.api.access import Access
from service.api.direct import DirectPath
from service.serving import Serving
from service.settings import Settings

DESCRIPTION = "Recommendations that learn from every click. Send the attribution token back with the events."


def create_app(settings: Settings, redis_url: str) -> FastAPI:
    """An application that comes up with what it can reach and waits for the rest."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        serving = Serving(settings, redis_url)
        app.state.serving = serving
        await serving.start()
        yield
        await serving.stop()

    app = FastAPI(title="Online Matching", version="0.1.0", description=DESCRIPTION, lifespan=lifespan)
    problems.install(app)
    for resource in (recommendations, events, items, bundles, health):
        app.include_router(resource.router)
    console.install(app)
    app.add_middleware(Timing)
    return app


def direct(app: FastAPI, settings: Settings) -> ASGIApp:
    """The application with its hot paths in front of it, and the keys in front of those: what the server runs."""
    paths = DirectPath(
        app,
        {("POST", "/v1/recommendations"): recommendations.answer, ("POST", "/v1/events"): events.answer},
    )
    return Access(paths, settings.api_keys) if settings.api_keys else paths


class Timing:
    """Measures every answer by its route's template."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._histograms: dict[tuple[str, int], Histogram] = {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass through, noting the status and the time."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        status = 500

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            route = scope.get("route")
            path = route.path if route is not None else "unknown"
            histogram = self._histograms.get((path, status))
            if histogram is None:
                histogram = self._histograms[path, status] = metrics.REQUEST_SECONDS.labels(path, str(status))
            histogram.observe(time.perf_counter() - started)
