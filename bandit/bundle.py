"""The bundle: the immutable, versioned output of the offline job, and all that a server needs to start.

    <root>/<version>/manifest.json        written last: a folder without one is not a bundle
                     arrays.safetensors   graph, priors, contexts, centroids
                     items.parquet        item_id and whatever columns the catalogue has, in item-number order
                     users.parquet        user_id, in the order of the contexts
                     *.onnx, …            optional, read by who asks for them (`bandit.models`)

Roots are anything fsspec opens: a folder, s3://…, gs://….
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from io import BytesIO

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import safetensors
import safetensors.numpy
from numpy.typing import NDArray
from pydantic import ValidationError

from bandit.context import UNIT, Context
from bandit.graph import Graph
from bandit.lineage import Ancestor
from bandit.manifest import SCHEMA_VERSION, Manifest
from bandit.models import MODELS
from bandit.prior import Prior

MANIFEST, ARRAYS, ITEMS, USERS = "manifest.json", "arrays.safetensors", "items.parquet", "users.parquet"
AT_A_TIME = 4096
# Stands where the manifest's own checksum goes, while that is computed.
_UNSIGNED = "0" * 64


class BundleError(Exception):
    """A bundle that is missing, damaged or of a format this program does not read; the message says which and why."""


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        manifest: counts, tables and provenance.
        graph: C clusters, J items, E edges.
        prior: beliefs per edge and item.
        centroids: float32[C, D].
        user_clusters, user_weights: int32[U, K], known users' contexts, heaviest first; a weight of 0 pads.
        population: the context of unknown users.
        item_order: int32[J], item numbers, what the population wants most first: the order of back-fill.
        items: J rows with `item_id` (string, unique).
        users: U rows with `user_id` (string, unique).
        parents: int32[C], each cluster's parent in `manifest.parent_version`, -1 for none; empty without one.
        models: contents of the optional files (`bandit.models`) by name: those that it has and that were asked for.
    """

    manifest: Manifest
    graph: Graph
    prior: Prior
    centroids: NDArray[np.float32]
    user_clusters: NDArray[np.int32]
    user_weights: NDArray[np.int32]
    population: Context
    item_order: NDArray[np.int32]
    items: pa.Table
    users: pa.Table
    parents: NDArray[np.int32]
    models: Mapping[str, bytes] = field(default_factory=dict)

    @cached_property
    def item_ids(self) -> list[str]:
        """Item ids by item number."""
        return _strings(self.items["item_id"])

    @cached_property
    def item_numbers(self) -> dict[str, int]:
        """Item numbers by id."""
        return {item_id: number for number, item_id in enumerate(self.item_ids)}

    @cached_property
    def user_rows(self) -> dict[str, int]:
        """Rows of the known users' contexts by user id."""
        return {user_id: row for row, user_id in enumerate(_strings(self.users["user_id"]))}

    @property
    def lineage(self) -> Ancestor:
        """What it is to those that descend from it, and what its own descent begins with."""
        manifest = self.manifest
        return Ancestor(manifest.version, manifest.parent_version, self.graph, self.item_ids, self.parents)

    def context(self, user_id: str | None) -> Context | None:
        """A known user's context, or None."""
        row = self.user_rows.get(user_id) if user_id is not None else None
        if row is None:
            return None
        size = self._context_sizes[row]
        return Context(self.user_clusters[row, :size], self.user_weights[row, :size])

    @cached_property
    def _context_sizes(self) -> list[int]:
        return np.count_nonzero(self.user_weights, axis=1).tolist()  # type: ignore[no-any-return]


def write(bundle: Bundle, root: str) -> str:
    """Write a bundle under `root`/<version> and return that address.

    Raises:
        BundleError: the version exists already (bundles are immutable), or the bundle contradicts itself.
    """
    _check(bundle)
    fs, path = fsspec.core.url_to_fs(root)
    folder = f"{path.rstrip('/')}/{bundle.manifest.version}"
    if fs.exists(f"{folder}/{MANIFEST}"):
        raise BundleError(
            f"{root}: bundle {bundle.manifest.version} exists; bundles are immutable, choose a new version"
        )
    files = {
        ARRAYS: safetensors.numpy.save(_arrays(bundle)),
        ITEMS: _parquet(bundle.items),
        USERS: _parquet(bundle.users),
        **bundle.models,
    }
    checksums = {name: _checksum(content) for name, content in files.items()}
    manifest = bundle.manifest.model_copy(update={"checksums": checksums | {MANIFEST: _UNSIGNED}})
    unsigned = manifest.model_dump_json(indent=2).encode()
    fs.makedirs(folder, exist_ok=True)
    for name, content in files.items():
        fs.pipe_file(f"{folder}/{name}", content)
    # A reader may look at any moment, and object stores cannot rename: the manifest comes last, whole.
    partial = f"{folder}/.{MANIFEST}"
    fs.pipe_file(partial, unsigned.replace(_UNSIGNED.encode(), _checksum(unsigned).encode()))
    fs.mv(partial, f"{folder}/{MANIFEST}")
    return f"{root.rstrip('/')}/{bundle.manifest.version}"


def versions(root: str, newer_than: str = "") -> list[str]:
    """The versions under `root`, oldest first by their names (they begin with their time); [] if there is no root.

    To ask for those newer than the one that is known costs an object store one request, however many there are.
    """
    fs, path = fsspec.core.url_to_fs(root)
    fs.invalidate_cache()
    path = path.rstrip("/")
    try:
        names = sorted({found.rstrip("/").rsplit("/", 1)[-1] for found in fs.ls(path, detail=False)})
    except FileNotFoundError:
        return []
    return [name for name in names if name > newer_than and fs.exists(f"{path}/{name}/{MANIFEST}")]


def read_manifest(root: str, version: str) -> Manifest:
    """Read one bundle's manifest alone (all that the fold needs). Raises BundleError."""
    where = f"{root.rstrip('/')}/{version}"
    manifest = _manifest(_read(root, version, MANIFEST), where)
    if manifest.version != version:
        raise BundleError(f"{where} holds bundle {manifest.version}: a bundle's folder has its version's name")
    return manifest


def load(root: str, version: str, models: Iterable[str] = ()) -> Bundle:
    """Read a bundle, verifying every checksum of what is read and that its parts agree.

    Args:
        root, version: where it is.
        models: the optional files to read as well, as far as the bundle has them.

    Raises:
        BundleError: a file is missing or damaged, or the format is unknown.
    """
    where = f"{root.rstrip('/')}/{version}"
    manifest = read_manifest(root, version)
    contents = {name: _verified(root, manifest, name) for name in (ARRAYS, ITEMS, USERS)}
    try:
        arrays = safetensors.numpy.load(contents[ARRAYS])
        bundle = Bundle(
            manifest=manifest,
            graph=Graph(arrays["graph_indptr"], arrays["graph_items"], manifest.counts.items),
            prior=Prior(arrays["prior_probability"], arrays["prior_strength"], manifest.informed_prior),
            centroids=arrays["centroids"],
            user_clusters=arrays["user_clusters"],
            user_weights=arrays["user_weights"],
            population=Context(arrays["population_clusters"], arrays["population_weights"]),
            item_order=arrays["item_order"],
            items=pq.read_table(BytesIO(contents[ITEMS])),
            users=pq.read_table(BytesIO(contents[USERS])),
            parents=arrays["parents"],
            models={name: _verified(root, manifest, name) for name in models if name in manifest.checksums},
        )
    except (KeyError, ValueError, pa.ArrowInvalid, safetensors.SafetensorError) as error:
        raise BundleError(f"{where}: {error}") from error
    _check(bundle)
    return bundle


def load_ancestor(root: str, version: str) -> Ancestor:
    """Read of an earlier bundle what its descendants need, verified: without its users it is far smaller.

    Raises:
        BundleError: a file is missing or damaged, or the format is unknown.
    """
    manifest = read_manifest(root, version)
    try:
        arrays = safetensors.numpy.load(_verified(root, manifest, ARRAYS))
        graph = Graph(arrays["graph_indptr"], arrays["graph_items"], manifest.counts.items)
        items = pq.read_table(BytesIO(_verified(root, manifest, ITEMS)), columns=["item_id"])
        return Ancestor(version, manifest.parent_version, graph, _strings(items["item_id"]), arrays["parents"])
    except (KeyError, ValueError, pa.ArrowInvalid, safetensors.SafetensorError) as error:
        raise BundleError(f"{root.rstrip('/')}/{version}: {error}") from error


def _arrays(bundle: Bundle) -> dict[str, NDArray[np.generic]]:
    return {
        "graph_indptr": bundle.graph.indptr,
        "graph_items": bundle.graph.items,
        "prior_probability": bundle.prior.probability,
        "prior_strength": bundle.prior.strength,
        "centroids": bundle.centroids,
        "user_clusters": bundle.user_clusters,
        "user_weights": bundle.user_weights,
        "population_clusters": bundle.population.clusters,
        "population_weights": bundle.population.weights,
        "item_order": bundle.item_order,
        "parents": bundle.parents,
    }


def _strings(column: pa.ChunkedArray) -> list[str]:
    """A column as Python's strings, a part at a time: other threads answer requests in between."""
    parts = (column.slice(start, AT_A_TIME).to_pylist() for start in range(0, len(column), AT_A_TIME))
    return [text for part in parts for text in part]


def _parquet(table: pa.Table) -> bytes:
    sink = BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getvalue()


def _read(root: str, version: str, name: str) -> bytes:
    fs, path = fsspec.core.url_to_fs(root)
    try:
        return fs.cat_file(f"{path.rstrip('/')}/{version}/{name}")  # type: ignore[no-any-return]
    except FileNotFoundError as error:
        raise BundleError(f"{root}: bundle {version} has no {name}") from error


def _verified(root: str, manifest: Manifest, name: str) -> bytes:
    content = _read(root, manifest.version, name)
    if _checksum(content) != manifest.checksums.get(name):
        where = f"{root.rstrip('/')}/{manifest.version}"
        raise BundleError(f"{where}: {name} does not match its checksum; publish the bundle again")
    return content


def _manifest(content: bytes, where: str) -> Manifest:
    try:
        manifest = Manifest.model_validate_json(content)
    except ValidationError as error:
        raise BundleError(f"{where}: {MANIFEST} is not readable: {error}") from error
    if manifest.schema_version != SCHEMA_VERSION:
        raise BundleError(
            f"{where}: schema version {manifest.schema_version}, this program reads {SCHEMA_VERSION}; build it anew"
        )
    signed = manifest.checksums.get(MANIFEST, "")
    if not signed or _checksum(content.replace(signed.encode(), _UNSIGNED.encode())) != signed:
        raise BundleError(f"{where}: {MANIFEST} does not match its checksum; publish the bundle again")
    return manifest


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _check(bundle: Bundle) -> None:
    counts, graph = bundle.manifest.counts, bundle.graph
    users, k = bundle.user_clusters.shape
    facts = {
        "edges": graph.num_edges == counts.edges == len(bundle.prior.probability),
        "clusters": graph.num_clusters == counts.clusters == len(bundle.centroids),
        "items": graph.num_items
        == counts.items
        == len(bundle.items)
        == len(bundle.item_order)
        == len(bundle.prior.strength),
        "users": users == counts.users == len(bundle.users) and bundle.user_weights.shape == (users, k),
        "clusters per user": k == counts.clusters_per_user,
        "item ids": len(bundle.item_numbers) == counts.items,
        "user ids": len(bundle.user_rows) == counts.users,
        "item order": np.array_equal(np.sort(bundle.item_order), np.arange(counts.items)),
        "user weights": bool((bundle.user_weights.sum(axis=1) == UNIT).all()),
        "user weights' order": bool((np.diff(bundle.user_weights, axis=1) <= 0).all()),
        "user clusters": _within(bundle.user_clusters, counts.clusters),
        "population": int(bundle.population.weights.sum()) == UNIT
        and _within(bundle.population.clusters, counts.clusters),
        "parents": len(bundle.parents) == (0 if bundle.manifest.parent_version is None else counts.clusters)
        and _injective(bundle.parents),
        "models": set(bundle.models) <= set(MODELS),
        "prior": bool(
            ((bundle.prior.probability >= 0) & (bundle.prior.probability <= 1)).all()
            and (bundle.prior.strength > 0).all()
            and np.isfinite(bundle.prior.strength).all()
        ),
    }
    wrong = [name for name, holds in facts.items() if not holds]
    if wrong:
        raise BundleError(f"bundle {bundle.manifest.version} contradicts itself in: {', '.join(wrong)}")


def _injective(parents: NDArray[np.int32]) -> bool:
    known = parents[parents >= 0]
    return len(np.unique(known)) == len(known)


def _within(clusters: NDArray[np.int32], num_clusters: int) -> bool:
    return not len(clusters) or bool(clusters.min() >= 0 and clusters.max() < num_clusters)
