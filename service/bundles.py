"""The published bundles, as the service sees them: which there are, which are whole, and whom they descend from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import NamedTuple

import structlog
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from bandit import bundle
from bandit.bundle import Bundle, BundleError
from bandit.lineage import Ancestor, Generation, trace
from bandit.manifest import Manifest

logger = structlog.get_logger(__name__)
AGAIN_S = 60.0


class BundleMissing(Exception):  # noqa: N818 - names what happened
    """A token names a version whose manifest cannot be had."""


class UnknownBundle(BundleError):  # noqa: N818 - names what happened
    """There is no bundle of this version."""


class Descent(NamedTuple):
    """The ancestors whose learning counts, parent first; and why there are not more of them, if something is amiss."""

    generations: list[Generation]
    missing: str | None


class Bundles:
    """The bundles under one root.

    Args:
        root: folder or fsspec address.
        wait_s: how long a manifest is waited for.
        models: the optional files that are loaded with a bundle.

    Attributes:
        refused: broken bundles that were met, with the reason.
    """

    def __init__(self, root: str, wait_s: float, models: Sequence[str] = ()) -> None:
        self.root = root
        self._models = models
        self._wait_s = wait_s
        self.refused: dict[str, str] = {}
        self._refused_at: dict[str, float] = {}
        self._manifests: dict[str, Manifest] = {}

    def versions(self, newer_than: str = "") -> list[str]:
        """All versions, or those newer than one, newest first."""
        return bundle.versions(self.root, newer_than)[::-1]

    def load(self, version: str) -> Bundle:
        """A bundle, verified. One that is broken is refused; `refused` says why.

        Raises:
            UnknownBundle: there is none of this version.
            BundleError: it is broken.
        """
        if version not in self.versions():
            raise UnknownBundle(f"{self.root} has no bundle {version}")
        started = time.monotonic()
        try:
            loaded = bundle.load(self.root, version, self._models)
        except BundleError as error:
            if self.refused.get(version) != str(error):
                logger.warning("a broken bundle is refused", version=version, error=str(error))
            self.refused[version] = str(error)
            self._refused_at[version] = time.monotonic()
            raise
        self.refused.pop(version, None)
        self._manifests[version] = loaded.manifest
        counts = loaded.manifest.counts.model_dump()
        logger.info("bundle loaded", version=version, seconds=round(time.monotonic() - started, 3), **counts)
        return loaded

    def try_load(self, version: str) -> Bundle:
        """Load a bundle; one that was refused less than a minute ago is refused at once."""
        if version in self.refused and time.monotonic() - self._refused_at[version] < AGAIN_S:
            raise BundleError(self.refused[version])
        return self.load(version)

    def newest(self) -> Bundle:
        """The newest bundle that is whole, verified.

        Raises:
            BundleError: there is none.
        """
        found = self.newer("")
        if found is not None:
            return found
        if self.refused:
            raise BundleError("; ".join(self.refused.values()))
        raise BundleError(f"no bundle in {self.root}: run `python -m offline run`, then it is served by itself")

    def newer(self, version: str) -> Bundle | None:
        """The newest bundle that is whole, verified; None if none is newer than this version."""
        versions = self.versions(version)
        self.refused = {known: why for known, why in self.refused.items() if known in versions or known <= version}
        for found in versions:
            try:
                return self.try_load(found)
            except BundleError:
                continue
        return None

    def before(self, version: str) -> str | None:
        """The newest version before this one that was not refused; None if there is none."""
        return next((older for older in self.versions() if older < version and older not in self.refused), None)

    def descent(self, heir: Bundle, generations: int) -> Descent:
        """Follow a bundle's edges back over this many generations, as far as their bundles are still there."""
        ancestors: list[Ancestor] = []
        child, missing = heir.lineage, None
        while child.parent_version is not None and len(ancestors) < generations:
            try:
                child = bundle.load_ancestor(self.root, child.parent_version)
            except BundleError as error:
                missing = f"what {child.parent_version} learned does not count: {error}"
                break
            ancestors.append(child)
        try:
            descent = Descent(trace(heir.lineage, ancestors), missing)
        except ValueError as error:
            descent = Descent([], f"what earlier bundles learned does not count: {error}")
        if descent.missing is not None:
            logger.warning("an ancestor is missing", version=heir.manifest.version, error=descent.missing)
        return descent

    def known(self, version: str) -> Manifest | None:
        """A manifest if it can be had at once."""
        if version not in self._manifests:
            try:
                self._manifests[version] = bundle.read_manifest(self.root, version)
            except (BundleError, OSError):
                return None
        return self._manifests[version]

    def manifest(self, version: str) -> Manifest:
        """A version's manifest, waiting for it up to the bound: a bundle may reach this machine after its tokens.

        Raises:
            BundleMissing: it did not come.
        """
        found = self._manifests.get(version)
        if found is not None:
            return found
        retrying = Retrying(
            retry=retry_if_exception_type((BundleError, OSError)),
            stop=stop_after_delay(self._wait_s),
            wait=wait_exponential(multiplier=0.05, max=2),
            before_sleep=lambda state: logger.warning(
                "waiting for a bundle", version=version, tries=state.attempt_number
            ),
        )
        try:
            found = retrying(bundle.read_manifest, self.root, version)
        except RetryError as error:
            raise BundleMissing(f"{self.root} has no bundle {version}, which tokens name: publish it there") from error
        self._manifests[version] = found
        return found
