"""Publishing: everything the steps made, as one bundle."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any

import numpy as np

from bandit import bundle as bundles
from bandit.bundle import Bundle
from bandit.manifest import Counts, Manifest
from offline.clustering import cluster
from offline.config import Build, Publish
from offline.data.dataset import Dataset
from offline.data.timelines import popularity
from offline.graph_builder import believe, draw
from offline.vectors import Vectors

DRAFT = "draft"


def assemble(dataset: Dataset, vectors: Vectors, config: Build) -> Bundle:
    """Cluster the users, draw the graph and put the bundle together, under the version DRAFT."""
    clusters = cluster(vectors.users, config)
    graph = draw(clusters.centroids, vectors.items, config)
    taken = popularity(dataset.timelines, len(dataset.items))
    return Bundle(
        manifest=Manifest(
            version=DRAFT,
            created_at=datetime.now(UTC),
            counts=Counts(
                users=len(dataset.users),
                items=len(dataset.items),
                clusters=graph.num_clusters,
                edges=graph.num_edges,
                clusters_per_user=clusters.user_clusters.shape[1],
            ),
            temperature=clusters.temperature,
        ),
        graph=graph,
        prior=believe(graph, clusters.centroids, vectors.items, vectors.temperature, taken > 0),
        centroids=clusters.centroids,
        user_clusters=clusters.user_clusters,
        user_weights=clusters.user_weights,
        population=clusters.population,
        item_order=np.argsort(-taken, kind="stable").astype(np.int32),
        items=dataset.items,
        users=dataset.users,
        parents=np.empty(0, dtype=np.int32),
    )


def publish(draft: Bundle, root: str, config: Publish, provenance: dict[str, Any], metrics: dict[str, Any]) -> str:
    """Give a draft its version, provenance and metrics, write it under `root` and return its version.

    A version is the time (UTC) and eight digits of a hash of all that is in it: names sort by age, and the
    same published again within a second is there already.

    Raises:
        BundleError: the bundle contradicts itself.
    """
    manifest, now = draft.manifest, datetime.now(UTC)
    sums = [manifest.checksums[name] for name in (bundles.ARRAYS, bundles.ITEMS, bundles.USERS)]
    content = json.dumps([sums, config.reward_table, provenance, metrics]).encode()
    version = f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content).hexdigest()[:8]}"
    final = Manifest.model_validate(
        {
            **manifest.model_dump(),
            "version": version,
            "created_at": now,
            "reward_table": config.reward_table,
            "config": provenance,
            "metrics": metrics,
            "git_commit": git_commit(),
            "checksums": {},
        }
    )
    if not exists(root, version):
        bundles.write(replace(draft, manifest=final), root)
    return version


def git_commit() -> str | None:
    """The commit of the checkout this program runs from, None outside one."""
    command = ["git", "-C", str(resources.files("offline")), "rev-parse", "HEAD"]
    try:
        return check_output(command, stderr=DEVNULL, text=True, timeout=5).strip()  # noqa: S603
    except (OSError, SubprocessError):
        return None


def exists(root: str, version: str) -> bool:
    """Whether a bundle is still where it was published."""
    return version in bundles.versions(root)


def read_draft(folder: Path) -> Bundle:
    """The draft that `assemble` made and the pipeline wrote to `folder`."""
    return bundles.load(str(folder), DRAFT)
