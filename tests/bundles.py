"""Small valid bundles for tests."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pyarrow as pa

from bandit.bundle import Bundle
from bandit.context import nearest, population
from bandit.graph import Graph
from bandit.manifest import Counts, Manifest
from bandit.prior import FRESH_STRENGTH, KNOWN_STRENGTH, Prior, from_softmax

DIMENSIONS = 8
CLUSTERS_PER_USER = 3
TEMPERATURE = 0.5


def small_bundle(
    seed: int = 0,
    *,
    users: int = 40,
    items: int = 60,
    clusters: int = 8,
    width: int = 20,
    clusters_per_user: int = CLUSTERS_PER_USER,
    temperature: float = TEMPERATURE,
    version: str = "20260101T000000Z",
) -> Bundle:
    """A random bundle: about `width` items per cluster, every item on at least one, the last tenth of them fresh.

    Ids hold what ids may hold: slashes, spaces, letters of many scripts.
    """
    rng = np.random.default_rng(seed)
    k = min(clusters_per_user, clusters)
    reached = np.argsort(rng.random((clusters, items)), axis=1)[:, : min(width, items)].ravel()
    missed = np.setdiff1d(np.arange(items), reached)
    rows = np.concatenate([np.repeat(np.arange(clusters), min(width, items)), rng.integers(clusters, size=len(missed))])
    graph = Graph.from_edges(rows, np.concatenate([reached, missed]), clusters, items)

    probability = from_softmax(rng.exponential(size=graph.num_edges), graph.indptr)
    strength = np.full(items, KNOWN_STRENGTH, dtype=np.float32)
    strength[items - items // 10 :] = FRESH_STRENGTH

    centroids = rng.normal(size=(clusters, DIMENSIONS)).astype(np.float32)
    vectors = rng.normal(size=(users, DIMENSIONS)).astype(np.float32)
    user_clusters, user_weights = nearest(vectors, centroids, k, temperature)
    popularity = np.bincount(graph.items, weights=probability, minlength=items)
    return Bundle(
        manifest=Manifest(
            version=version,
            created_at=datetime(2026, 1, 1, tzinfo=UTC),
            counts=Counts(users=users, items=items, clusters=clusters, edges=graph.num_edges, clusters_per_user=k),
            temperature=temperature,
        ),
        graph=graph,
        prior=Prior(probability, strength, informed=True),
        centroids=centroids,
        user_clusters=user_clusters,
        user_weights=user_weights,
        population=population(user_clusters, user_weights, clusters, k),
        item_order=np.argsort(-popularity, kind="stable").astype(np.int32),
        items=pa.table({"item_id": _ids("item", items), "category": [f"category-{n % 5}" for n in range(items)]}),
        users=pa.table({"user_id": _ids("user", users)}),
        parents=np.zeros(0, dtype=np.int32),
    )


def child_of(parent: Bundle, seed: int = 1, **changes: Any) -> Bundle:
    """Another random bundle whose clusters descend from the parent's, all but one, in another order."""
    child = small_bundle(seed, **{"version": "20260102T000000Z"} | changes)
    clusters = max(child.graph.num_clusters, parent.graph.num_clusters)
    parents = np.random.default_rng(seed).permutation(clusters)[: child.graph.num_clusters].astype(np.int32)
    parents[parents >= parent.graph.num_clusters] = -1
    parents[0] = -1
    manifest = child.manifest.model_copy(update={"parent_version": parent.manifest.version})
    return replace(child, manifest=manifest, parents=parents)


def _ids(kind: str, count: int) -> list[str]:
    forms = ("{kind}-{n}", "{kind}/{n}/part a", "{kind} ü {n} 推薦", "{kind}?{n}#%2F")
    return [forms[n % len(forms)].format(kind=kind, n=n) for n in range(count)]
