from pathlib import Path
from threading import Timer

import pytest

from bandit import bundle
from bandit.bundle import ITEMS, MANIFEST, BundleError
from service import bundles as module
from service.bundles import BundleMissing, Bundles, UnknownBundle
from tests.bundles import child_of, small_bundle

OLD, NEW, NEWEST = (f"2026010{day}T000000Z" for day in (1, 2, 3))


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "bundles")


def publish(root: str, version: str) -> None:
    bundle.write(small_bundle(version=version), root)


def test_the_newest_bundle_is_the_one_with_the_latest_name(root: str) -> None:
    bundles = Bundles(root, wait_s=0)
    with pytest.raises(BundleError, match="python -m offline run"):
        bundles.newest()
    publish(root, NEW)
    assert bundles.newest().manifest.version == NEW
    publish(root, OLD)
    assert bundles.newest().manifest.version == NEW
    assert bundles.newest().item_ids == small_bundle().item_ids


def test_a_broken_bundle_is_refused_and_an_older_one_goes_on(root: str) -> None:
    publish(root, OLD)
    publish(root, NEW)
    bundles = Bundles(root, wait_s=0)
    (Path(root) / NEW / "items.parquet").write_bytes(b"damaged")
    assert bundles.newest().manifest.version == OLD
    assert "does not match its checksum" in bundles.refused[NEW]
    (Path(root) / OLD / "items.parquet").write_bytes(b"damaged")
    with pytest.raises(BundleError, match="does not match its checksum"):
        bundles.newest()


def damage(root: str, version: str) -> bytes:
    """What stood there before."""
    path = Path(root) / version / ITEMS
    content = path.read_bytes()
    path.write_bytes(b"damaged")
    return content


def test_only_a_newer_bundle_takes_the_place_of_what_is_served(root: str) -> None:
    bundles = Bundles(root, wait_s=0)
    assert bundles.newer(OLD) is None
    publish(root, OLD)
    publish(root, NEW)
    found = bundles.newer(OLD)
    assert found is not None
    assert found.manifest.version == NEW
    assert bundles.newer(NEW) is None
    publish(root, NEWEST)
    damage(root, NEWEST)
    assert bundles.newer(NEW) is None
    assert set(bundles.refused) == {NEWEST}
    assert [bundles.before(version) for version in (NEWEST, NEW, OLD)] == [NEW, OLD, None]


def test_a_folder_without_a_manifest_is_no_bundle_yet(root: str) -> None:
    publish(root, OLD)
    publish(root, NEW)
    (Path(root) / NEW / MANIFEST).unlink()
    bundles = Bundles(root, wait_s=0)
    assert bundles.newest().manifest.version == OLD
    assert bundles.newer(OLD) is None
    assert bundles.versions() == [OLD]
    assert bundles.refused == {}


def test_a_broken_bundle_is_read_again_after_a_while_or_when_told(root: str, monkeypatch: pytest.MonkeyPatch) -> None:
    publish(root, OLD)
    publish(root, NEW)
    bundles = Bundles(root, wait_s=0)
    content = damage(root, NEW)
    assert bundles.newer(OLD) is None
    (Path(root) / NEW / ITEMS).write_bytes(content)
    assert bundles.newer(OLD) is None
    monkeypatch.setattr(module, "AGAIN_S", 0)
    assert bundles.newer(OLD) is not None
    assert bundles.refused == {}
    damage(root, NEW)
    with pytest.raises(BundleError, match="checksum"):
        bundles.load(NEW)
    (Path(root) / NEW / ITEMS).write_bytes(content)
    assert bundles.load(NEW).manifest.version == NEW
    assert bundles.refused == {}


@pytest.mark.parametrize("version", [NEW, "..", "", "a/b"])
def test_a_bundle_that_is_not_there_is_unknown(root: str, version: str) -> None:
    publish(root, OLD)
    with pytest.raises(UnknownBundle, match=f"{root} has no bundle"):
        Bundles(root, wait_s=0).load(version)


def test_a_bundle_descends_from_those_that_are_there(root: str) -> None:
    first = small_bundle(version=OLD)
    second = child_of(first, version=NEW)
    third = child_of(second, 2, version=NEWEST)
    for one in (first, second, third):
        bundle.write(one, root)
    bundles = Bundles(root, wait_s=0)
    for generations, expected in ((0, []), (1, [NEW]), (2, [NEW, OLD]), (9, [NEW, OLD])):
        descent = bundles.descent(third, generations)
        assert [generation.version for generation in descent.generations] == expected
        assert descent.missing is None
    damage(root, OLD)
    descent = bundles.descent(third, 9)
    assert [generation.version for generation in descent.generations] == [NEW]
    assert descent.missing is not None
    assert descent.missing.startswith(f"what {OLD} learned does not count: ")


def test_parents_that_contradict_their_bundle_are_done_without(root: str) -> None:
    bundle.write(small_bundle(version=OLD, clusters=2), root)
    descent = Bundles(root, wait_s=0).descent(child_of(small_bundle(version=OLD)), 1)
    assert descent.generations == []
    assert descent.missing is not None
    assert "names clusters as parents" in descent.missing


def test_a_manifest_that_is_there_is_had_at_once_and_kept(root: str) -> None:
    publish(root, OLD)
    for bundles in (Bundles(root, wait_s=0), Bundles(root, wait_s=60)):
        assert bundles.manifest(OLD).version == OLD
        kept = bundles.manifest(OLD)
        assert bundles.manifest(OLD) is kept
        assert bundles.known(OLD) is kept


def test_what_is_known_is_found_without_waiting(root: str) -> None:
    bundles = Bundles(root, wait_s=60)
    assert bundles.known(OLD) is None
    publish(root, OLD)
    found = bundles.known(OLD)
    assert found is not None
    assert found.version == OLD
    assert bundles.manifest(OLD) is found


@pytest.mark.parametrize("wait_s", [0, 0.1])
def test_a_bundle_that_does_not_come_is_named_with_what_to_do(root: str, wait_s: float) -> None:
    with pytest.raises(BundleMissing, match=f"{root} has no bundle {OLD}, which tokens name: publish it there"):
        Bundles(root, wait_s).manifest(OLD)


def test_a_bundle_that_comes_late_is_waited_for(root: str) -> None:
    later = Timer(0.15, publish, (root, OLD))
    later.start()
    assert Bundles(root, wait_s=60).manifest(OLD).version == OLD
    later.join()


def test_a_bundle_that_was_missing_is_asked_for_again(root: str) -> None:
    bundles = Bundles(root, wait_s=0)
    with pytest.raises(BundleMissing):
        bundles.manifest(OLD)
    publish(root, OLD)
    assert bundles.manifest(OLD).version == OLD
