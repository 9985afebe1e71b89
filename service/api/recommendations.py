"""POST /v1/recommendations: a slate for whoever asks, and the token that credits it."""

from __future__ import annotations

from concurrent.futures import Future
from typing import Annotated, Any

import numpy as np
import orjson
from fastapi import APIRouter, Request
from pydantic import BaseModel, ConfigDict, Field
from starlette.responses import Response

from bandit import context as contexts
from bandit.context import Context
from service import metrics, pseudonym
from service.api.direct import Json, json_body
from service.api.problems import Problem
from service.events import ItemId
from service.experiment import UnknownArm
from service.feedback_log.base import Position
from service.recommender import NOBODY, NOTHING, SOURCES, Asker, Recommender
from service.serving import Serving
from service.settings import Arm
from service.store.users import UsersUnavailable

router = APIRouter(tags=["recommendations"])
UserId = Annotated[str, Field(min_length=1, max_length=1024)]


class RequestContext(BaseModel):
    """A context that the caller computed: clusters of one bundle version, and their weights."""

    model_config = ConfigDict(extra="forbid")

    version: str
    clusters: list[Annotated[int, Field(ge=0, lt=1 << 31)]] = Field(min_length=1, max_length=32)
    weights: list[float] = Field(min_length=1, max_length=32)


class RecommendationRequest(BaseModel):
    """Who asks, and for what."""

    model_config = ConfigDict(extra="forbid")

    user_id: UserId | None = Field(None, description="a known user is served by the bundle's context")
    session_id: UserId | None = Field(None, description="stands for somebody without a user id")
    context: RequestContext | None = Field(None, description="overrides what is known of the user")
    limit: int = Field(10, ge=1, le=200)
    exclude_item_ids: tuple[ItemId, ...] = Field((), max_length=1000)
    exclude_seen: bool = Field(False, description="leave out what this user was shown")
    arm: str | None = Field(None, description="an arm of the experiment table; unset: the user's own")
    explain: bool = Field(False, description="say how each score came about")


class Explanation(BaseModel):
    """score = mean + bonus; and how often (Σ e·w) the item's edges to which of the user's clusters were shown."""

    mean: float
    bonus: float
    impressions: float
    inherited: float = Field(description="how much of `impressions` was under earlier bundles")
    belief: float | None = Field(description="the ranker's, which took the place of the offline model's; null without")
    clusters: list[int]


class RecommendedItem(BaseModel):
    """One item of the slate."""

    item_id: str
    score: float | None = Field(description="null for back-filled items")
    propensity: float | None = Field(description="probability of being in the slate; null where nothing was random")
    source: str = Field(description="explore, exploit or fallback")
    explanation: Explanation | None = None


class Recommendation(BaseModel):
    """A slate, in order."""

    recommendation_id: str
    attribution_token: str = Field(description="send it back with the events")
    version: str
    arm: str
    policy: str
    fallback: str | None = Field(description="`population` when nothing is known of the user")
    degraded: list[str] = Field(description="what could not be taken into account: `seen`, `recent`")
    items: list[RecommendedItem]


@router.post(
    "/v1/recommendations",
    responses={200: {"model": Recommendation}},
    openapi_extra=json_body(RecommendationRequest.model_json_schema()),
)
async def recommend(request: Request) -> Response:
    """Recommend items."""
    return await answer(request.app.state.serving, await request.body())


async def answer(serving: Serving, body: bytes) -> Response:
    """Answer a request's body. It is read and written by hand: this is the hot path."""
    asked = RecommendationRequest.model_validate_json(body)
    recommender = serving.recommender
    if recommender is None:
        raise Problem(503, "No bundle yet", serving.bundle_error or "a bundle is being loaded", retry_after_s=1)
    if serving.epoch is None:
        raise Problem(503, "No feedback log yet", serving.log_error or "it is being reached", retry_after_s=1)

    user = _pseudonym(asked, serving.pseudonym_key)
    arm = _arm(asked, serving, user)
    context, fallback = _context(asked, recommender)
    excluded, degraded = recommender.numbers(asked.exclude_item_ids) if asked.exclude_item_ids else NOTHING, []
    if asked.exclude_seen and user != pseudonym.NOBODY:
        try:
            seen = recommender.numbers_of(await serving.users.items(user, rewarded=False))
            excluded = np.concatenate([excluded, seen])
        except UsersUnavailable:
            degraded.append("seen")

    asker = await _asker(asked, serving, recommender, user, degraded) if recommender.ranks(arm) else NOBODY
    served = recommender.serve(
        arm=arm, user=user, context=context, limit=asked.limit, excluded=excluded, epoch=serving.epoch, asker=asker
    )
    drawn = served.slate
    items: list[dict[str, Any]] = [
        {"item_id": item_id, "score": score, "propensity": propensity, "source": SOURCES[source]}
        for item_id, score, propensity, source in zip(
            served.item_ids, drawn.scores.tolist(), drawn.propensities.tolist(), drawn.sources.tolist(), strict=True
        )
    ]
    if asked.explain:
        for item, explanation in zip(items, recommender.explain(served, arm, context), strict=True):
            item["explanation"] = explanation
    if serving.settings.served_is_shown and serving.log is not None:
        shown = {"type": "impression", "attribution_token": served.attribution_token}
        _count_lost(serving.log.append(served.recommendation_id.encode(), orjson.dumps(shown)), len(items))
    told = {
        "recommendation_id": served.recommendation_id,
        "attribution_token": served.attribution_token,
        "version": recommender.bundle.manifest.version,
        "arm": arm.name,
        "policy": arm.policy,
        "fallback": fallback,
        "degraded": degraded,
        "items": items,
    }
    # orjson writes NaN, which stands for "none" in the arrays, as null.
    return Json(orjson.dumps(told))


def _count_lost(appended: Future[Position], items: int) -> None:
    """Count these items once their impression is known not to be in the log; the answer does not wait for that."""

    def end(future: Future[Position]) -> None:
        if future.exception() is not None:
            metrics.SERVED_UNLOGGED.inc(items)

    appended.add_done_callback(end)


def _pseudonym(asked: RecommendationRequest, key: bytes) -> bytes:
    if asked.user_id is not None:
        return pseudonym.of_user(asked.user_id, key)
    if asked.session_id is not None:
        return pseudonym.of_session(asked.session_id, key)
    return pseudonym.NOBODY


def _arm(asked: RecommendationRequest, serving: Serving, user: bytes) -> Arm:
    if asked.arm is None:
        # Nobody in particular has no hash to choose by: chance does, or all of them would share one arm.
        return serving.experiment.choose(user if user != pseudonym.NOBODY else pseudonym.by_chance())
    try:
        return serving.experiment.named(asked.arm)
    except UnknownArm as error:
        raise Problem(422, "Unknown arm", str(error)) from error


async def _asker(
    asked: RecommendationRequest, serving: Serving, recommender: Recommender, user: bytes, degraded: list[str]
) -> Asker:
    """What the ranker is told of the user; `degraded` is told if Redis could not be asked."""
    row = recommender.bundle.user_rows.get(asked.user_id) if asked.user_id is not None else None
    if user == pseudonym.NOBODY:
        return Asker(row)
    try:
        answered = await serving.users.items(user, rewarded=True)
    except UsersUnavailable:
        degraded.append("recent")
        return Asker(row)
    return Asker(row, recommender.numbers_of(answered[::-1]))


def _context(asked: RecommendationRequest, recommender: Recommender) -> tuple[Context, str | None]:
    bundle = recommender.bundle
    if asked.context is not None:
        version = bundle.manifest.version
        if asked.context.version != version:
            detail = f"the context is of version {asked.context.version}, served is {version}: compute it anew"
            raise Problem(409, "Context of another version", detail)
        clusters = np.array(asked.context.clusters, dtype=np.int64)
        weights = np.array(asked.context.weights, dtype=np.float64)
        try:
            return contexts.from_pairs(clusters, weights, bundle.graph.num_clusters), None
        except ValueError as error:
            raise Problem(422, "The context does not fit", str(error)) from error
    known = bundle.context(asked.user_id)
    return (bundle.population, "population") if known is None else (known, None)
