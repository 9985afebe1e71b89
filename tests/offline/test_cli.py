import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from bandit import bundle as bundles
from offline import cli
from tests.offline.conftest import TRAIN

COMMANDS = ("run", "prepare", "train", "build", "rank", "evaluate", "publish")


def main(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["offline", *arguments])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    return int(ended.value.code or 0)


def test_help_tells_the_commands_and_their_options() -> None:
    shown = CliRunner().invoke(cli.app, ["--help"], env={"COLUMNS": "200"}).output
    assert all(command in shown for command in COMMANDS)
    shown = CliRunner().invoke(cli.app, ["run", "--help"], env={"COLUMNS": "200"}).output
    for option in ("--interactions", "--user-column", "--drop-duplicates", "--test-start", "--bundles", "--config"):
        assert option in shown


def test_the_steps_one_by_one_from_any_folder(
    shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = {**TRAIN.model_dump(exclude={"hiformer", "density", "text"}), "max_epochs": 1}
    lines = (f"{key} = {json.dumps(value)}" for key, value in settings.items())
    (tmp_path / "run.toml").write_text("\n".join(["[train]", *lines]))
    files = ["--interactions", str(shop / "interactions.parquet"), "--items", str(shop / "items.parquet")]
    assert main(monkeypatch, "prepare", *files, "--test-start", "2024-03-21") == 0
    assert main(monkeypatch, "train", "--config", "run.toml", "--seed", "5") == 0
    for command in ("build", "evaluate", "publish"):
        assert main(monkeypatch, command) == 0
    manifest = bundles.read_manifest("bundles", bundles.versions("bundles")[-1])
    assert manifest.config["train"]["seed"] == 5
    assert manifest.config["train"]["dimension"] == TRAIN.dimension
    assert manifest.version in capsys.readouterr().out
    assert main(monkeypatch, "publish", "--parent", "no-such-version") == 2
    assert "bundles: bundle no-such-version has no manifest.json" in capsys.readouterr().err
    assert main(monkeypatch, "publish", "--parent", manifest.version) == 0
    parents = {bundles.read_manifest("bundles", version).parent_version for version in bundles.versions("bundles")}
    assert parents == {None, manifest.version}


def test_faults_end_with_a_message_and_code_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("own[1].csv").write_text("user_id,item_id,timestamp\n1,a,2024-01-01\n1,a,2024-01-01\n")
    for arguments, message in (
        (["prepare", "--interactions", "own[1].csv"], "own[1].csv: row 2, columns 'user_id', 'item_id', 'timestamp'"),
        (["run", "--config", "none.toml"], "none.toml: no such file"),
        (["train", "--work", "nowhere"], "nowhere: prepare has not been run"),
        (["run", "--items", "i.csv"], "name an interactions file too"),
    ):
        assert main(monkeypatch, *arguments) == 2
        shown = capsys.readouterr().err
        assert message in shown
        assert "Traceback" not in shown


def test_several_processes_need_an_address(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(monkeypatch, "train", "--processes", "2") == 2
    assert "--processes needs --coordinator HOST:PORT" in capsys.readouterr().err
    assert main(monkeypatch, "train", "--coordinator", "127.0.0.1:1", "--processes", "2", "--process", "2") == 2
    assert "2 processes are numbered 0 to 1" in capsys.readouterr().err


def test_an_option_that_is_no_option_ends_with_code_2(monkeypatch: pytest.MonkeyPatch) -> None:
    assert main(monkeypatch, "run", "--nonsense") == 2


def test_is_a_module_to_run(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "offline", "train", "--help"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path)
    assert "checkpoint" in shown.stdout
