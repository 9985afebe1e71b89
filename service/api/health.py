"""Health and metrics: /health/live, /health/ready, /metrics."""

from __future__ import annotations

from typing import Any

import orjson
from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.responses import Response

from service import metrics
from service.replica import ReplicaState
from service.serving import Serving

router = APIRouter(tags=["operations"])


@router.get("/health/live")
async def live() -> dict[str, str]:
    """The process answers."""
    return {"status": "ok"}


@router.get("/health/ready", responses={503: {"description": "cannot serve yet"}})
async def ready(request: Request) -> Response:
    """What each dependency says. 200 for `ready` and `degraded` (serves what it knows), 503 for `unavailable`."""
    serving: Serving = request.app.state.serving
    dependencies = {"bundle": _bundle(serving), "redis": _redis(serving), "feedback_log": _log(serving)}
    healthy = all(dependency["ok"] for dependency in dependencies.values())
    serves = serving.recommender is not None and serving.epoch is not None
    status = "ready" if healthy else "degraded" if serves else "unavailable"
    body = {"status": status, "dependencies": dependencies}
    return Response(orjson.dumps(body), 200 if serves else 503, media_type="application/json")


@router.get("/metrics")
async def exposition(request: Request) -> Response:
    """Prometheus metrics of this process."""
    serving: Serving = request.app.state.serving
    if serving.recommender is not None:
        metrics.REPLICA_AGE_SECONDS.set(serving.recommender.replica.age_s)
        serving.recommender.publish()
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _bundle(serving: Serving) -> dict[str, Any]:
    switch = serving.switch
    if switch.recommender is None:
        return {"ok": False, "detail": switch.error or "loading"}
    told: dict[str, Any] = {"ok": switch.error is None, "version": switch.version}
    details = [detail for detail in (switch.error, switch.missing) if detail is not None]
    more = {
        "pinned": switch.asked.version,
        "inherits": [generation.version for generation in switch.recommender.replica.learned.generations],
        "refused": serving.bundles.refused,
        "detail": "; ".join(details),
    }
    return told | {name: value for name, value in more.items() if value}


def _redis(serving: Serving) -> dict[str, Any]:
    if serving.recommender is None:
        return {"ok": False, "detail": "followed once there is a bundle"}
    replica = serving.recommender.replica
    ok = replica.state is ReplicaState.FOLLOWING
    told = {"ok": ok, "replica": replica.state.value, "age_s": round(replica.age_s, 3)}
    return told if replica.error is None else told | {"detail": replica.error}


def _log(serving: Serving) -> dict[str, Any]:
    if serving.log_error is not None:
        return {"ok": False, "detail": serving.log_error}
    return {"ok": True, "epoch": serving.epoch.hex() if serving.epoch else None}
