"""GET /v1/items/{id}: what the catalogue says of an item, and what every edge of it has learned."""

from __future__ import annotations

from typing import Any, Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel, Field

from bandit import statistics
from bandit.bundle import Bundle
from service.api.problems import Problem
from service.recommender import Recommender
from service.serving import Serving

router = APIRouter(tags=["items"])


class EdgeState(BaseModel):
    """One edge: the prior's belief, the sums of what users said, and what the arm makes of both."""

    cluster: int
    prior: float = Field(description="m, the prior probability of a reward")
    d: float = Field(description="Σ w²")
    n: float = Field(description="Σ e·w")
    b: float = Field(description="Σ w·r")
    mean: float
    optimistic: float


class ArmState(BaseModel):
    """What one arm has learned of an item."""

    arm: str
    policy: str
    namespace: str
    impressions: float = Field(description="Σ e·w over the item's edges")
    rewards: float = Field(description="Σ w·r over the item's edges")
    edges: list[EdgeState]


class Item(BaseModel):
    """An item of the bundle in service."""

    item_id: str
    version: str
    attributes: dict[str, Any]
    clusters: list[int] = Field(description="the clusters that have an edge to it")
    prior_strength: float = Field(description="A: expected clicks that the prior is worth")
    state: list[ArmState] | None = Field(None, description="with view=state")


@router.get("/v1/items/{item_id:path}", response_model_exclude_none=True)
async def get(request: Request, item_id: str, view: Literal["basic", "state"] = "basic") -> Item:
    """Look an item up; the id is the whole rest of the path and may hold `/`."""
    serving: Serving = request.app.state.serving
    recommender = serving.recommender
    if recommender is None:
        raise Problem(503, "No bundle yet", serving.bundle_error or "a bundle is being loaded", retry_after_s=1)
    bundle = recommender.bundle
    number = bundle.item_numbers.get(item_id)
    if number is None:
        raise Problem(404, "Unknown item", f"bundle {bundle.manifest.version} has no item {item_id!r}")
    attributes = bundle.items.slice(number, 1).to_pylist()[0]
    del attributes["item_id"]
    return Item(
        item_id=item_id,
        version=bundle.manifest.version,
        attributes=attributes,
        clusters=bundle.graph.clusters[bundle.graph.edges_of(number)].tolist(),
        prior_strength=float(bundle.prior.strength[number]),
        state=_state(serving, recommender, bundle, number) if view == "state" else None,
    )


def _state(serving: Serving, recommender: Recommender, bundle: Bundle, number: int) -> list[ArmState]:
    edges = bundle.graph.edges_of(number)
    states = []
    for arm in serving.experiment.arms:
        derived = recommender.replica.derived[arm.name]
        sums = statistics.natural(recommender.replica.sums[arm.namespace][edges])
        columns = (
            bundle.graph.clusters[edges],
            bundle.prior.probability[edges],
            *sums,
            derived.mean[edges],
            derived.optimistic[edges],
        )
        states.append(
            ArmState(
                arm=arm.name,
                policy=arm.policy,
                namespace=arm.namespace,
                impressions=float(sums.n.sum()),
                rewards=float(sums.b.sum()),
                edges=[
                    EdgeState(cluster=c, prior=m, d=d, n=n, b=b, mean=mean, optimistic=optimistic)
                    for c, m, d, n, b, mean, optimistic in zip(*(column.tolist() for column in columns), strict=True)
                ],
            )
        )
    return states
