"""GET /console: a page that shows the running system, and lets people try it. It asks the API like everybody else."""

from __future__ import annotations

from fastapi import FastAPI
from starlette.responses import RedirectResponse
from starlette.staticfiles import StaticFiles


def install(app: FastAPI) -> None:
    """Serve the page's files, and lead there from the root."""

    @app.get("/", include_in_schema=False)
    async def root() -> RedirectResponse:
        return RedirectResponse("console/")

    app.mount("/console", StaticFiles(packages=[("service", "console")], html=True), name="console")
