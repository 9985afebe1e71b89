"""Bundles for tests of the fold: their tables are those of the manifest by which its logs are read."""

from dataclasses import replace

from bandit import bundle
from tests.bundles import small_bundle
from tests.service.fold.logs import MANIFEST
from tests.service.tokens import VERSION


def publish(root: str, version: str = VERSION) -> None:
    plain = small_bundle(version=version)
    tables = {"reward_table": MANIFEST.reward_table, "examination_table": MANIFEST.examination_table}
    bundle.write(replace(plain, manifest=plain.manifest.model_copy(update=tables)), root)
