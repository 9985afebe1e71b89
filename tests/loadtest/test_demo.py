"""The whole loop at small scale: the embedded service, simulated users over HTTP, and the report."""

from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from typer.testing import CliRunner

from bandit import bundle as bundles
from bandit.bundle import Bundle
from loadtest import demo
from loadtest.local_service import LocalService
from loadtest.world import World
from offline.config import Config, load
from tests.bundles import small_bundle

TEST_START = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def own_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """SIGTERM stays the test run's own."""
    monkeypatch.setattr(demo, "end_on_sigterm", lambda: None)


def small_world(bundle: Bundle) -> World:
    """Purchases after the bundle's time: its users, and a few it does not know, buy its items, some far more."""
    rng = np.random.default_rng(0)
    users = [*bundle.users["user_id"].to_pylist()[:20], "newcomer-1", "newcomer-2"]
    weights = 1 / np.arange(1, len(bundle.item_ids) + 1)
    rows = [
        {"user_id": user, "item_id": bundle.item_ids[item], "timestamp": TEST_START + timedelta(days=basket)}
        for user in users
        for basket in range(3)
        for item in rng.choice(len(bundle.item_ids), size=6, p=weights / weights.sum())
    ]
    return World.fit(pa.Table.from_pylist(rows), TEST_START, 0, bundle.item_ids)


def test_the_loop_closes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    bundle = small_bundle()
    root = str(tmp_path / "bundles")
    bundles.write(bundle, root)
    run = demo.Run(3, 4, 1, tmp_path / "report", {"install": 1.5, "train": 2.5})
    with LocalService(tmp_path / "state", demo.environment(root, 1)) as service:
        assert asyncio.run(demo.drive(service, small_world(bundle), bundle, run))

    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert (tmp_path / "report" / "learning.png").stat().st_size > 0
    assert summary["default_arm"] == "default"
    assert list(summary["arms"]) == ["default", "diag_linucb", "greedy", "popular", "random"]
    for arm in summary["arms"].values():
        assert {"policy", "impressions", "clicks", "click_rate", "ci95", "first_third", "last_third"} <= set(arm)
        assert arm["impressions"] > 0
        assert arm["ci95"][0] <= arm["click_rate"] <= arm["ci95"][1]
    assert summary["arms"]["default"]["policy"] == "calibrated_diag_linucb"
    assert summary["oracle"]["click_rate"] > summary["arms"]["random"]["click_rate"]
    assert 0 < summary["freshness_ms"]["p50"] <= summary["freshness_ms"]["p99"]

    events = summary["events"]
    sent = sum(arm["impressions"] + arm["clicks"] for arm in summary["arms"].values())
    assert events["accepted"] == sent > 100
    assert events["accepted"] == events["folded"] + events["duplicates"] + events["late"] + events["dead_lettered"]
    assert (events["refused"], events["unknown"], events["lost"]) == (0, 0, 0)
    assert summary["log"] == "sqlite"
    assert summary["seconds"]["install"] == 1.5
    assert summary["seconds"]["train"] == 2.5
    assert summary["seconds"]["traffic"] >= 2
    counts = bundle.manifest.counts
    expected = {"users": counts.users, "items": counts.items, "clusters": counts.clusters, "edges": counts.edges}
    assert summary["bundle"] == {"version": bundle.manifest.version, **expected}
    assert summary["traffic"]["visits"] > 0
    assert set(summary["machine"]["cores_used"]) >= {"simulated users", "api", "fold", "valkey"}


def test_an_existing_bundle_is_used(tmp_path: Path) -> None:
    bundles.write(small_bundle(), str(tmp_path))
    assert demo.train(str(tmp_path)) == 0


def test_trains_by_the_demos_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commands = []

    def run(command: list[str], *, check: bool) -> subprocess.CompletedProcess[str]:
        commands.append(command)
        bundles.write(small_bundle(), str(tmp_path))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)
    demo.train(str(tmp_path))
    assert commands[0][commands[0].index("--config") + 1] == str(demo.TRAINING)
    default, found = Config().train.density, load(demo.TRAINING, {}).train.density
    assert (found.rounds, found.epochs) < (default.rounds, default.epochs)


def test_says_when_the_bundle_is_of_other_data(tmp_path: Path) -> None:
    bundles.write(small_bundle(), str(tmp_path / "bundles"))
    arguments = ["--bundles", str(tmp_path / "bundles"), "--state", str(tmp_path / "state")]
    result = CliRunner().invoke(demo.cli, arguments)
    assert result.exit_code == 2
