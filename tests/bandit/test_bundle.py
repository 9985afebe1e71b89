import dataclasses
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest

from bandit.bundle import (
    ARRAYS,
    ITEMS,
    MANIFEST,
    USERS,
    Bundle,
    BundleError,
    load,
    load_ancestor,
    read_manifest,
    versions,
    write,
)
from bandit.context import UNIT, Context
from bandit.models import FEATURES, MODELS, RANKER_USER, USER_TOWER
from bandit.prior import Prior
from tests.bundles import small_bundle

VERSION = "20260101T000000Z"
FILES = [MANIFEST, ARRAYS, ITEMS, USERS]


@pytest.fixture(params=["folder", "memory"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    if request.param == "folder":
        yield str(tmp_path)
        return
    yield "memory://bundles"
    fsspec.filesystem("memory").rm("/bundles", recursive=True)


def rewrite(root: str, name: str, content: bytes) -> None:
    fs, path = fsspec.core.url_to_fs(root)
    fs.pipe_file(f"{path}/{VERSION}/{name}", content)


def content_of(root: str, name: str) -> bytes:
    fs, path = fsspec.core.url_to_fs(root)
    content: bytes = fs.cat_file(f"{path}/{VERSION}/{name}")
    return content


def arrays_of(bundle: Bundle) -> dict[str, Any]:
    return {
        "indptr": bundle.graph.indptr,
        "edges": bundle.graph.items,
        "probability": bundle.prior.probability,
        "strength": bundle.prior.strength,
        "centroids": bundle.centroids,
        "user_clusters": bundle.user_clusters,
        "user_weights": bundle.user_weights,
        "population_clusters": bundle.population.clusters,
        "population_weights": bundle.population.weights,
        "item_order": bundle.item_order,
        "parents": bundle.parents,
    }


def test_what_is_written_is_loaded(root: str) -> None:
    bundle = small_bundle()
    assert write(bundle, root) == f"{root}/{VERSION}"
    loaded = load(root, VERSION)
    for name, array in arrays_of(bundle).items():
        again = arrays_of(loaded)[name]
        assert again.dtype == array.dtype, name
        np.testing.assert_array_equal(again, array, err_msg=name)
    assert loaded.prior.informed
    assert loaded.items.equals(bundle.items)
    assert loaded.users.equals(bundle.users)
    assert loaded.manifest == bundle.manifest.model_copy(update={"checksums": loaded.manifest.checksums})
    assert read_manifest(root, VERSION) == loaded.manifest


def test_models_are_read_by_who_asks_for_them_and_verified(root: str) -> None:
    models = {USER_TOWER: b"tower", FEATURES: b"arrays"}
    write(dataclasses.replace(small_bundle(), models=models), root)
    assert load(root, VERSION).models == {}
    assert load(root, VERSION, [USER_TOWER, RANKER_USER]).models == {USER_TOWER: b"tower"}
    assert load(root, VERSION, MODELS).models == models
    rewrite(root, FEATURES, b"array?")
    load(root, VERSION, [USER_TOWER])
    with pytest.raises(BundleError, match=FEATURES):
        load(root, VERSION, MODELS)


def test_a_bundle_of_an_unknown_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="models"):
        write(dataclasses.replace(small_bundle(), models={ARRAYS: b""}), str(tmp_path))


def test_ids_lead_to_numbers_rows_and_contexts() -> None:
    bundle = small_bundle()
    assert bundle.item_ids[bundle.item_numbers["item/1/part a"]] == "item/1/part a"
    row = bundle.user_rows["user ü 2 推薦"]
    context = bundle.context("user ü 2 推薦")
    assert context is not None
    assert context.weights.sum() == UNIT
    assert context.weights.min() > 0
    assert set(context.clusters.tolist()) <= set(bundle.user_clusters[row].tolist())
    assert bundle.context("nobody") is None
    assert bundle.context(None) is None


def test_an_existing_version_is_refused(root: str) -> None:
    write(small_bundle(), root)
    with pytest.raises(BundleError, match="immutable"):
        write(small_bundle(seed=1), root)


def test_versions_are_folders_with_a_manifest(root: str) -> None:
    assert versions(root) == []
    write(small_bundle(version="20260202T000000Z"), root)
    write(small_bundle(), root)
    fs, path = fsspec.core.url_to_fs(root)
    fs.makedirs(f"{path}/20260303T000000Z")
    fs.pipe_file(f"{path}/20260303T000000Z/{ARRAYS}", b"unfinished")
    assert versions(root) == [VERSION, "20260202T000000Z"]


@pytest.mark.parametrize("name", FILES)
def test_a_missing_file_is_refused(root: str, name: str) -> None:
    write(small_bundle(), root)
    fs, path = fsspec.core.url_to_fs(root)
    fs.rm(f"{path}/{VERSION}/{name}")
    with pytest.raises(BundleError, match=name):
        load(root, VERSION)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_byte_is_noticed(name: str) -> None:
    root = "memory://flipped"
    write(small_bundle(users=3, items=5, clusters=2, width=3), root)
    whole = content_of(root, name)
    for position in range(0, len(whole), max(1, len(whole) // 200)):
        damaged = bytearray(whole)
        damaged[position] ^= 1
        rewrite(root, name, bytes(damaged))
        with pytest.raises(BundleError):
            load(root, VERSION)
    rewrite(root, name, whole)
    load(root, VERSION)
    fsspec.filesystem("memory").rm("/flipped", recursive=True)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("content", [b"", b"{}", b"\xff\xfe"])
def test_a_damaged_file_is_refused(tmp_path: Path, name: str, content: bytes) -> None:
    write(small_bundle(), str(tmp_path))
    rewrite(str(tmp_path), name, content)
    with pytest.raises(BundleError):
        load(str(tmp_path), VERSION)


def test_an_unknown_schema_is_refused(tmp_path: Path) -> None:
    write(small_bundle(), str(tmp_path))
    manifest = json.loads(content_of(str(tmp_path), MANIFEST))
    rewrite(str(tmp_path), MANIFEST, json.dumps(manifest | {"schema_version": 99}).encode())
    with pytest.raises(BundleError, match="schema version 99"):
        load(str(tmp_path), VERSION)


def test_an_edited_manifest_is_refused(tmp_path: Path) -> None:
    write(small_bundle(), str(tmp_path))
    manifest = json.loads(content_of(str(tmp_path), MANIFEST))
    rewrite(str(tmp_path), MANIFEST, json.dumps(manifest | {"reward_table": {"click": 0.5}}).encode())
    with pytest.raises(BundleError, match="checksum"):
        read_manifest(str(tmp_path), VERSION)


@pytest.mark.parametrize(
    ("change", "message"), [({"parents": None}, "parents"), ({"graph_indptr": np.ones(9, dtype=np.int64)}, "indptr")]
)
def test_arrays_that_make_no_bundle_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: dict[str, Any], message: str
) -> None:
    whole = {f"graph_{name}" if name == "indptr" else name: array for name, array in arrays_of(small_bundle()).items()}
    named = whole | {"graph_items": whole["edges"], "prior_probability": whole["probability"]}
    named |= {"prior_strength": whole["strength"]} | change
    kept = {name: array for name, array in named.items() if array is not None}
    monkeypatch.setattr("bandit.bundle._arrays", lambda _: kept)
    write(small_bundle(), str(tmp_path))
    with pytest.raises(BundleError, match=message):
        load(str(tmp_path), VERSION)


def contradictions() -> dict[str, Bundle]:
    bundle = small_bundle()
    prior = bundle.prior
    nan = np.full_like(prior.probability, np.nan)
    child = bundle.manifest.model_copy(update={"parent_version": "older"})
    return {
        "edges": dataclasses.replace(bundle, prior=prior._replace(probability=prior.probability[:-1])),
        "clusters": dataclasses.replace(bundle, centroids=bundle.centroids[:-1]),
        "items": dataclasses.replace(bundle, items=bundle.items.slice(1)),
        "users": dataclasses.replace(bundle, users=bundle.users.slice(1)),
        "item order": dataclasses.replace(bundle, item_order=np.zeros_like(bundle.item_order)),
        "user weights": dataclasses.replace(bundle, user_weights=bundle.user_weights * 2),
        "user clusters": dataclasses.replace(bundle, user_clusters=bundle.user_clusters + 100),
        "population": dataclasses.replace(
            bundle, population=Context(bundle.population.clusters, bundle.population.weights * 2)
        ),
        "parents": dataclasses.replace(bundle, manifest=child, parents=np.zeros(8, dtype=np.int32)),
        "prior": dataclasses.replace(bundle, prior=Prior(nan, prior.strength, informed=True)),
    }


@pytest.mark.parametrize("what", sorted(contradictions()))
def test_a_bundle_that_contradicts_itself_is_not_written(tmp_path: Path, what: str) -> None:
    with pytest.raises(BundleError, match=f"contradicts itself in: .*{what}"):
        write(contradictions()[what], str(tmp_path))
    assert versions(str(tmp_path)) == []


def test_a_parent_map_is_kept(tmp_path: Path) -> None:
    child = small_bundle().manifest.model_copy(update={"parent_version": "older"})
    parents = np.array([3, -1, 0, 1, -1, 5, 2, 9], dtype=np.int32)
    write(dataclasses.replace(small_bundle(), manifest=child, parents=parents), str(tmp_path))
    assert load(str(tmp_path), VERSION).parents.tolist() == parents.tolist()


def with_parent(bundle: Bundle, parent: str) -> Bundle:
    manifest = bundle.manifest.model_copy(update={"parent_version": parent})
    return dataclasses.replace(bundle, manifest=manifest, parents=np.array([3, -1, 0, 1, -1, 5, 2, 9], dtype=np.int32))


def test_an_ancestor_is_what_its_bundle_says(root: str) -> None:
    bundle = with_parent(small_bundle(), "older")
    write(bundle, root)
    loaded, known = load_ancestor(root, VERSION), bundle.lineage
    assert loaded.version == known.version == VERSION
    assert loaded.parent_version == known.parent_version == "older"
    assert loaded.item_ids == known.item_ids
    for one, other in ((loaded.graph.indptr, known.graph.indptr), (loaded.graph.items, known.graph.items)):
        np.testing.assert_array_equal(one, other)
    assert loaded.parents.tolist() == bundle.parents.tolist()


@pytest.mark.parametrize("name", [MANIFEST, ARRAYS, ITEMS])
def test_a_damaged_ancestor_is_refused(tmp_path: Path, name: str) -> None:
    write(small_bundle(), str(tmp_path))
    rewrite(str(tmp_path), USERS, b"nobody needs them")
    load_ancestor(str(tmp_path), VERSION)
    rewrite(str(tmp_path), name, b"damaged")
    with pytest.raises(BundleError):
        load_ancestor(str(tmp_path), VERSION)


def test_a_bundle_under_another_name_is_refused(tmp_path: Path) -> None:
    write(small_bundle(), str(tmp_path))
    (tmp_path / VERSION).rename(tmp_path / "renamed")
    for read in (load, load_ancestor, read_manifest):
        with pytest.raises(BundleError, match=f"renamed holds bundle {VERSION}"):
            read(str(tmp_path), "renamed")
