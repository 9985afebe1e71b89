"""`python -m loadtest.run`: Locust really loads a local service, without a failed request."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandit import bundle as bundles
from loadtest import run
from tests.bundles import small_bundle


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """No host of somebody's own; SIGTERM stays the test run's."""
    monkeypatch.delenv("LOADTEST_HOST", raising=False)
    monkeypatch.setattr(run, "end_on_sigterm", lambda: None)


def test_loads_a_local_service(tmp_path: Path) -> None:
    bundles.write(small_bundle(), str(tmp_path / "bundles"))
    folders = {"--bundles": "bundles", "--state": "state", "--report": "report"}
    arguments = ["-u", "10", "-r", "10", "-t", "4"]
    for option, folder in folders.items():
        arguments += [option, str(tmp_path / folder)]
    result = CliRunner().invoke(run.cli, arguments)
    assert result.exit_code == 0, result.output + (tmp_path / "report" / "locust.log").read_text()
    assert (tmp_path / "report" / "report.html").stat().st_size > 0
    with (tmp_path / "report" / "stats.csv").open(newline="") as opened:
        rows = {row["Name"]: row for row in csv.DictReader(opened)}
    assert int(rows["Aggregated"]["Request Count"]) > 10
    assert int(rows["Aggregated"]["Failure Count"]) == 0
    assert {"/v1/recommendations [known]", "/v1/events [impression]"} <= set(rows)


def test_says_what_to_run_without_a_bundle(tmp_path: Path) -> None:
    result = CliRunner().invoke(run.cli, ["--bundles", str(tmp_path), "--report", str(tmp_path / "report")])
    assert result.exit_code == 2
    assert "make train" in result.output
