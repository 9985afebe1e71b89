"""Publishing: everything the steps made, as one bundle."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from importlib import resources
from pathlib import Path
from subprocess import DEVNULL, SubprocessError, check_output
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit import bundle as bundles
from bandit.bundle import Bundle, BundleError
from bandit.manifest import Counts, Manifest
from offline.clustering import cluster
from offline.config import Build, Publish
from offline.data.dataset import Dataset
from offline.data.timelines import popularity
from offline.export.networks import Networks
from offline.graph_builder import believe, draw
from offline.matching import match
from offline.vectors import Vectors

DRAFT = "draft"
NEWEST, NONE = "newest", "none"


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


def equip(draft: Bundle, towers: Networks, ranker: Networks) -> Bundle:
    """A draft with its networks."""
    readings = {"item_features": towers.item_features, "user_features": towers.user_features}
    models = {**towers.models, **ranker.models}
    return replace(draft, manifest=draft.manifest.model_copy(update=readings), models=models)


class Descent(NamedTuple):
    """Whom a bundle descends from (int32[C], empty without a parent), what that carries over, and in words."""

    parent: str | None
    parents: NDArray[np.int32]
    metrics: dict[str, Any]
    told: str


def publish(
    draft: Bundle,
    root: str,
    config: Publish,
    provenance: dict[str, Any],
    metrics: dict[str, Any],
    tell: Callable[[str], None] = lambda _: None,
) -> str:
    """Give a draft its version, parent, provenance and metrics, write it under `root` and return its version.

    A version is the time (UTC) and eight digits of a hash of all that it is made of: names sort by age, and the same
    published again within a second is there already, whatever `newest` would mean by then.

    Raises:
        BundleError: the bundle contradicts itself, or the parent that `config` names cannot be it.
    """
    manifest, now = draft.manifest, datetime.now(UTC)
    sums = [manifest.checksums[name] for name in (bundles.ARRAYS, bundles.ITEMS, bundles.USERS)]
    sums += [hashlib.sha256(draft.models[name]).hexdigest() for name in sorted(draft.models)]
    content = json.dumps([sums, config.model_dump(), provenance, metrics]).encode()
    version = f"{now:%Y%m%dT%H%M%SZ}-{hashlib.sha256(content).hexdigest()[:8]}"
    if exists(root, version):
        return version
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
    descent = descend(replace(draft, manifest=final), root, config.parent)
    tell(descent.told)
    final = final.model_copy(update={"parent_version": descent.parent, "metrics": metrics | descent.metrics})
    bundles.write(replace(draft, manifest=final, parents=descent.parents), root)
    return version


def descend(new: Bundle, root: str, parent: str) -> Descent:
    """Match a bundle's clusters to its parent's: `newest`, `none` or a version.

    The newest is no parent if its rewards mean something else; of several, a broken one is passed over.

    Raises:
        BundleError: a version is named that cannot be read, or whose rewards mean something else.
    """
    if parent == NONE:
        return _alone("Begins anew, as asked.")
    if parent != NEWEST:
        old = bundles.load(root, parent)
        if foreign := _foreign(new.manifest, old.manifest):
            raise BundleError(f"{parent} cannot be the parent: {foreign}")
        return _descent(new, old)
    for version in reversed(bundles.versions(root)):
        try:
            old = bundles.load(root, version)
        except BundleError:
            continue
        foreign = _foreign(new.manifest, old.manifest)
        return _alone(f"Begins anew: of {version}, {foreign}.") if foreign else _descent(new, old)
    return _alone("Begins anew: there is no earlier bundle.")


def _alone(told: str) -> Descent:
    return Descent(None, np.empty(0, dtype=np.int32), {}, told)


def _descent(new: Bundle, old: Bundle) -> Descent:
    parents, clusters, edges, weight = match(new, old)
    version = old.manifest.version
    told = f"Carries on {version}: {clusters:.0%} of its clusters, {edges:.0%} of its edges, {weight:.0%} by weight."
    return Descent(version, parents, {"carried_over": {"clusters": clusters, "edges": edges, "weight": weight}}, told)


def _foreign(new: Manifest, old: Manifest) -> str | None:
    """Why an earlier bundle's sums do not mean what a new one's do, or None."""
    if new.reward_table != old.reward_table:
        return f"the reward table differs, {old.reward_table}"
    if new.examination_table != old.examination_table:
        return "the examination table differs"
    return None


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
