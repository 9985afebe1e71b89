import re
from datetime import UTC, datetime, tzinfo
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from pydantic import ValidationError
from rich.progress import Progress

from bandit import bundle as bundles
from bandit.bundle import Bundle, BundleError
from bandit.prior import FRESH_STRENGTH, KNOWN_STRENGTH
from offline import publishing
from offline.config import Prepare, Publish
from offline.data import dataset, tables
from offline.data.dataset import Dataset
from offline.training import search
from tests.offline.conftest import BUILD, TEST_START, TRAIN, interactions


def arrays(draft: Bundle) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in bundles._arrays(draft).items()}


def another_future(folder: Path, novelties: bool) -> Path:
    """The shop with another test period: fewer sales, strangers, and, if told, items nobody had heard of."""
    rows, others = interactions(), interactions(seed=7)
    early = rows.filter(pc.less(rows["timestamp"], TEST_START))
    late = others.filter(pc.greater_equal(others["timestamp"], TEST_START))
    strangers = late.set_column(0, "user_id", pa.array(["stranger"] * len(late)))
    if novelties:
        strangers = strangers.set_column(1, "item_id", pa.array([f"novelty {row}" for row in range(len(late))]))
    pq.write_table(pa.concat_tables([early, late.slice(0, len(late) // 2), strangers]), folder / "other.parquet")
    return folder / "other.parquet"


def test_the_test_period_changes_no_byte(shop: Path, draft: Bundle, tmp_path: Path) -> None:
    path = another_future(tmp_path, novelties=False)
    tables.prepare(Prepare(interactions=path, items=shop / "items.parquet", test_start=TEST_START), tmp_path)
    data = dataset.load(tmp_path)
    with Progress(disable=True) as progress:
        trained = search.train(data, TRAIN, tmp_path / "checkpoints", progress)
    changed = publishing.assemble(data, trained.vectors, BUILD)
    assert arrays(changed) == arrays(draft)
    assert changed.items.equals(draft.items)
    assert changed.users.equals(draft.users)


def test_a_catalogue_learned_from_interactions_knows_nothing_of_the_test_period(shop: Path, tmp_path: Path) -> None:
    found = []
    for number, path in enumerate((shop / "interactions.parquet", another_future(tmp_path, novelties=True))):
        (tmp_path / str(number)).mkdir()
        tables.prepare(Prepare(interactions=path, test_start=TEST_START), tmp_path / str(number))
        found.append(dataset.load(tmp_path / str(number)))
    assert found[0].items.equals(found[1].items)
    assert found[0].users.equals(found[1].users)
    for one, two in zip(found[0].timelines, found[1].timelines, strict=True):
        assert np.asarray(one).tobytes() == np.asarray(two).tobytes()


def test_what_is_assembled_is_what_the_service_loads(draft: Bundle, data: Dataset, tmp_path: Path) -> None:
    bundles.write(draft, str(tmp_path))
    loaded = publishing.read_draft(tmp_path)
    assert arrays(loaded) == arrays(draft)
    assert loaded.item_ids == data.items["item_id"].to_pylist()
    assert loaded.context("u07") is not None
    assert loaded.context("nobody") is None


def test_popular_items_come_first_and_fresh_ones_are_believed_weakly(draft: Bundle, data: Dataset) -> None:
    taken = np.bincount(data.timelines.items, minlength=len(data.items))
    assert (np.diff(taken[draft.item_order]) <= 0).all()
    assert np.array_equal(draft.prior.strength, np.where(taken > 0, KNOWN_STRENGTH, FRESH_STRENGTH))
    assert set(draft.item_order[-3:].tolist()) == {27, 28, 29}


def test_a_published_bundle_tells_where_it_comes_from(draft: Bundle, tmp_path: Path) -> None:
    bundles.write(draft, str(tmp_path / "draft"))
    saved = publishing.read_draft(tmp_path / "draft")
    root = str(tmp_path / "bundles")
    config = Publish(reward_table={"click": 0.2, "buy": 0.8})
    before = datetime.now(UTC)
    version = publishing.publish(saved, root, config, {"train": {"seed": 0}}, {"recall": 0.5})
    assert re.fullmatch(r"\d{8}T\d{6}Z-[0-9a-f]{8}", version)
    assert publishing.exists(root, version)
    assert not publishing.exists(root, "other")
    manifest = bundles.load(root, version).manifest
    assert manifest.reward_table == config.reward_table
    assert (manifest.config, manifest.metrics) == ({"train": {"seed": 0}}, {"recall": 0.5})
    assert manifest.created_at >= before.replace(microsecond=0)
    assert manifest.git_commit == publishing.git_commit()
    other = publishing.publish(saved, root, config, {"train": {"seed": 1}}, {"recall": 0.5})
    assert other.split("-")[1] != version.split("-")[1]


def test_the_same_published_twice_in_a_second_is_there_once(
    draft: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Standing(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Standing":
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(publishing, "datetime", Standing)
    bundles.write(draft, str(tmp_path / "draft"))
    saved, root = publishing.read_draft(tmp_path / "draft"), str(tmp_path / "bundles")
    first, again = (publishing.publish(saved, root, Publish(), {}, {}) for _ in range(2))
    assert first == again
    assert bundles.versions(root) == [first]
    assert bundles.versions(root) != [publishing.publish(saved, root, Publish(), {"seed": 1}, {})]


@pytest.fixture
def saved(draft: Bundle, tmp_path: Path) -> Bundle:
    """The draft as the pipeline reads it."""
    bundles.write(draft, str(tmp_path / "draft"))
    return publishing.read_draft(tmp_path / "draft")


@pytest.fixture
def root(tmp_path: Path) -> str:
    return str(tmp_path / "bundles")


def publish(saved: Bundle, root: str, parent: str = "newest", seed: int = 0, **changes: Any) -> tuple[Bundle, str]:
    """What was published, and what was told of its descent."""
    told: list[str] = []
    version = publishing.publish(saved, root, Publish(parent=parent, **changes), {"seed": seed}, {}, told.append)
    return bundles.load(root, version), "".join(told)


def test_a_bundle_carries_on_the_newest_one(saved: Bundle, root: str) -> None:
    first, told = publish(saved, root)
    assert first.manifest.parent_version is None
    assert len(first.parents) == 0
    assert told == "Begins anew: there is no earlier bundle."
    second, told = publish(saved, root, seed=1)
    assert second.manifest.parent_version == first.manifest.version
    assert second.parents.tolist() == list(range(first.graph.num_clusters))
    assert second.manifest.metrics["carried_over"] == pytest.approx({"clusters": 1, "edges": 1, "weight": 1})
    assert told == f"Carries on {first.manifest.version}: 100% of its clusters, 100% of its edges, 100% by weight."


def test_its_parent_may_be_named_or_none(saved: Bundle, root: str) -> None:
    first, _ = publish(saved, root)
    publish(saved, root, seed=1)
    third, _ = publish(saved, root, first.manifest.version, seed=2)
    assert third.manifest.parent_version == first.manifest.version
    fourth, told = publish(saved, root, "none", seed=3)
    assert fourth.manifest.parent_version is None
    assert told == "Begins anew, as asked."
    with pytest.raises(BundleError, match="no-such-version has no"):
        publish(saved, root, "no-such-version", seed=4)


def test_a_broken_bundle_is_no_parent(saved: Bundle, root: str) -> None:
    first, _ = publish(saved, root)
    broken, _ = publish(saved, root, seed=1)
    (Path(root) / broken.manifest.version / bundles.ITEMS).write_bytes(b"damaged")
    third, _ = publish(saved, root, seed=2)
    assert third.manifest.parent_version == first.manifest.version
    with pytest.raises(BundleError, match="checksum"):
        publish(saved, root, broken.manifest.version, seed=3)


def test_rewards_that_mean_something_else_are_not_carried_over(saved: Bundle, root: str) -> None:
    first, _ = publish(saved, root)
    table = {"click": 0.5, "buy": 0.5}
    second, told = publish(saved, root, reward_table=table)
    assert second.manifest.parent_version is None
    assert told == f"Begins anew: of {first.manifest.version}, the reward table differs, {{'click': 1.0}}."
    with pytest.raises(BundleError, match="cannot be the parent: the reward table differs"):
        publish(saved, root, first.manifest.version, seed=1, reward_table=table)


def test_rewards_that_add_up_to_more_than_one_are_refused(draft: Bundle, tmp_path: Path) -> None:
    bundles.write(draft, str(tmp_path))
    saved = publishing.read_draft(tmp_path)
    with pytest.raises(ValidationError, match="more than 1"):
        publishing.publish(saved, str(tmp_path), Publish(reward_table={"a": 0.9, "b": 0.9}), {}, {})


def test_outside_a_checkout_there_is_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit = publishing.git_commit()
    assert commit is None or re.fullmatch(r"[0-9a-f]{40}", commit)
    monkeypatch.setattr(resources, "files", lambda _: tmp_path)
    assert publishing.git_commit() is None
