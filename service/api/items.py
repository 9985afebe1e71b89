"""GET /v1/items/{id}: what the catalogue says of an item, and what every edge of it has learned."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from fastapi import APIRouter, Request
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from bandit import statistics
from bandit.bundle import Bundle
from bandit.statistics import Statistics
from service.api.problems import Problem
from service.recommender import Recommender
from service.serving import Serving

router = APIRouter(tags=["items"])


class Inherited(BaseModel):
    """How much of an edge's sums was said under earlier bundles."""

    d: float
    n: float
    b: float


class EdgeState(BaseModel):
    """One edge: the prior's belief, the sums of what users said, and what the arm makes of both."""

    cluster: int
    prior: float = Field(description="m, the prior probability of a reward")
    d: float = Field(description="Σ w²")
    n: float = Field(description="Σ e·w")
    b: float = Field(description="Σ w·r")
    inherited: Inherited | None = Field(None, description="where the bundle has ancestors")
    mean: float
    optimistic: float


class ArmState(BaseModel):
    """What one arm has learned of an item."""

    arm: str
    policy: str
    namespace: str
    impressions: float = Field(description="Σ e·w over the item's edges")
    rewards: float = Field(description="Σ w·r over the item's edges")
    inherited_impressions: float | None = Field(None, description="how many of them were under earlier bundles")
    inherited_rewards: float | None = None
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
    learned, states = recommender.replica.learned, []
    for arm in serving.experiment.arms:
        derived = recommender.replica.derived[arm.name]
        own, inherited = learned.own[arm.namespace][edges], learned.inherited.get(arm.namespace)
        earlier = None if inherited is None else statistics.natural(inherited[edges])
        sums = statistics.natural(own if inherited is None else own + inherited[edges])
        beliefs = bundle.prior.probability[edges], derived.mean[edges], derived.optimistic[edges]
        states.append(
            ArmState(
                arm=arm.name,
                policy=arm.policy,
                namespace=arm.namespace,
                impressions=float(sums.n.sum()),
                rewards=float(sums.b.sum()),
                inherited_impressions=None if earlier is None else float(earlier.n.sum()),
                inherited_rewards=None if earlier is None else float(earlier.b.sum()),
                edges=_edges(bundle.graph.clusters[edges], sums, earlier, *beliefs),
            )
        )
    return states


def _edges(
    clusters: NDArray[np.int32], sums: Statistics, earlier: Statistics | None, *beliefs: NDArray[np.float32]
) -> list[EdgeState]:
    inherited: list[Inherited | None] = [None] * len(clusters)
    if earlier is not None:
        inherited = [Inherited(d=d, n=n, b=b) for d, n, b in zip(*(part.tolist() for part in earlier), strict=True)]
    arrays: tuple[NDArray[Any], ...] = (clusters, *sums, *beliefs)
    columns = [column.tolist() for column in arrays]
    return [
        EdgeState(cluster=c, d=d, n=n, b=b, inherited=before, prior=m, mean=mean, optimistic=optimistic)
        for (c, d, n, b, m, mean, optimistic), before in zip(zip(*columns, strict=True), inherited, strict=True)
    ]
