"""The published bundles, as the service sees them: which there are, and their manifests, waited for where needed."""

from __future__ import annotations

import time

import structlog
from tenacity import RetryError, Retrying, retry_if_exception_type, stop_after_delay, wait_exponential

from bandit import bundle
from bandit.bundle import Bundle, BundleError
from bandit.manifest import Manifest

logger = structlog.get_logger(__name__)


class BundleMissing(Exception):  # noqa: N818 - names what happened
    """A token names a version whose manifest cannot be had."""


class Bundles:
    """The bundles under one root."""

    def __init__(self, root: str, wait_s: float) -> None:
        self.root = root
        self._wait_s = wait_s
        self.refused: dict[str, str] = {}
        self._manifests: dict[str, Manifest] = {}

    def newest(self) -> Bundle:
        """The newest bundle that is whole, verified. Newer ones that are broken are refused; `refused` says why.

        Raises:
            BundleError: there is none.
        """
        told, self.refused = self.refused, {}
        for version in reversed(bundle.versions(self.root)):
            try:
                return self._load(version)
            except BundleError as error:
                self.refused[version] = str(error)
                if told.get(version) != str(error):
                    logger.warning("a broken bundle is refused", version=version, error=str(error))
        if self.refused:
            raise BundleError("; ".join(self.refused.values()))
        raise BundleError(f"no bundle in {self.root}: run `python -m offline run`, then it is served by itself")

    def _load(self, version: str) -> Bundle:
        started = time.monotonic()
        loaded = bundle.load(self.root, version)
        counts = loaded.manifest.counts.model_dump()
        logger.info("bundle loaded", version=version, seconds=round(time.monotonic() - started, 3), **counts)
        return loaded

    def known(self, version: str) -> Manifest | None:
        """A manifest if it can be had at once."""
        if version not in self._manifests:
            try:
                self._manifests[version] = bundle.read_manifest(self.root, version)
            except BundleError:
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
            retry=retry_if_exception_type(BundleError),
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
