"""/v1/bundles: which bundles there are, which one is served, and how an operator changes that."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import datetime
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query, Request
from pydantic import BaseModel, Field

from bandit.bundle import BundleError
from bandit.manifest import Counts, Manifest
from service.api.problems import Problem
from service.bundles import UnknownBundle
from service.serving import Serving
from service.store.active import Change
from service.switch import STORE_FAILURES, Conflict, NotLevel

router = APIRouter(prefix="/v1/bundles", tags=["bundles"])
CHANGES_TOLD = 20
Revision = Annotated[
    int | None,
    Query(ge=0, description="the `revision` that was seen: if what is active changed since, nothing is done (409)"),
]
PROBLEMS: dict[int | str, dict[str, Any]] = {
    404: {"description": "there is no such bundle"},
    409: {"description": "what is active is not what the caller believes"},
    422: {"description": "the bundle is broken; what was served goes on"},
    503: {"description": "Redis or the bundles' root is away"},
}


class BundleState(BaseModel):
    """One bundle under the root."""

    version: str
    state: Literal["active", "available", "refused"]
    reason: str | None = Field(None, description="why it is refused")
    created_at: datetime | None = None
    parent_version: str | None = None
    git_commit: str | None = None
    counts: Counts | None = None
    metrics: dict[str, Any] | None = Field(None, description="single figures of the offline job's report")


class BundleList(BaseModel):
    """All bundles, newest first, and what operators asked for."""

    serving: str | None = Field(description="what this server serves; others follow within seconds")
    active: str | None = Field(description="what every server should serve")
    pinned: bool = Field(description="false: the newest whole bundle is active, whichever that is")
    revision: int = Field(description="the number of the last change that an operator made")
    bundles: list[BundleState]
    changes: list[Change] = Field(description="the last changes that operators made, newest first")


@router.get("", response_model_exclude_none=True)
async def every(request: Request) -> BundleList:
    """Every bundle, which one is active, and which one this server serves."""
    return await _told(request.app.state.serving)


@router.post("/{version}:activate", response_model_exclude_none=True, responses=PROBLEMS)
async def activate(request: Request, version: str, revision: Revision = None) -> BundleList:
    """Verify a bundle and pin it. This server serves it when it answers, the others within seconds."""
    serving: Serving = request.app.state.serving
    return await _changed(serving, serving.switch.activate(version, revision))


@router.post("/{version}:rollback", response_model_exclude_none=True, responses=PROBLEMS)
async def roll_back(request: Request, version: str, revision: Revision = None) -> BundleList:
    """Pin what was active before `version`, the active one. Said twice it is refused, so that it goes back once."""
    serving: Serving = request.app.state.serving
    return await _changed(serving, serving.switch.roll_back(version, revision))


@router.post(":unpin", response_model_exclude_none=True, responses=PROBLEMS)
async def unpin(request: Request, revision: Revision = None) -> BundleList:
    """Serve the newest whole bundle again, and every newer one that is published."""
    serving: Serving = request.app.state.serving
    return await _changed(serving, serving.switch.unpin(revision))


async def _changed(serving: Serving, change: Awaitable[None]) -> BundleList:
    try:
        # It goes on to its end even if this client hangs up.
        await asyncio.shield(asyncio.ensure_future(change))
    except UnknownBundle as error:
        raise Problem(404, "Unknown bundle", str(error)) from error
    except BundleError as error:
        raise Problem(422, "The bundle is refused", f"{error}; {serving.switch.version} is served") from error
    except Conflict as error:
        raise Problem(409, "Something else is active", str(error)) from error
    except (NotLevel, OSError, *STORE_FAILURES) as error:
        raise Problem(503, "Not now", str(error), retry_after_s=1) from error
    return await _told(serving)


async def _told(serving: Serving) -> BundleList:
    switch = serving.switch
    try:
        changes = await switch.changes()
        found = await asyncio.to_thread(_states, serving)
    except (OSError, *STORE_FAILURES) as error:
        raise Problem(503, "Not now", str(error), retry_after_s=1) from error
    pinned = changes[0].version if changes else None
    whole = [bundle.version for bundle in found if bundle.state != "refused"]
    active = pinned or (whole[0] if whole else None)
    for bundle in found:
        if bundle.version == active and bundle.state != "refused":
            bundle.state = "active"
    return BundleList(
        serving=switch.version,
        active=active,
        pinned=pinned is not None,
        revision=changes[0].revision if changes else 0,
        bundles=found,
        changes=changes[:CHANGES_TOLD],
    )


def _states(serving: Serving) -> list[BundleState]:
    states = []
    for version in serving.bundles.versions():
        manifest = serving.bundles.known(version)
        reason = serving.bundles.refused.get(version) or (None if manifest else "its manifest cannot be read")
        state = BundleState(version=version, state="refused" if reason else "available", reason=reason)
        if manifest is not None:
            state.created_at, state.counts = manifest.created_at, manifest.counts
            state.parent_version, state.git_commit = manifest.parent_version, manifest.git_commit
            state.metrics = _in_short(manifest)
        states.append(state)
    return states


def _in_short(manifest: Manifest) -> dict[str, Any]:
    """The figures that a section has at its top; its tables are in the manifest."""
    return {
        section: {name: value for name, value in figures.items() if isinstance(value, int | float)}
        for section, figures in manifest.metrics.items()
        if isinstance(figures, dict)
    }
