from pathlib import Path
from threading import Timer

import pytest

from bandit import bundle
from bandit.bundle import BundleError
from service.bundles import BundleMissing, Bundles
from tests.bundles import small_bundle

OLD, NEW = "20260101T000000Z", "20260102T000000Z"


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
