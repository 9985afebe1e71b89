"""The child service's folder, ports and end; that it serves is shown by the demo's own test."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from loadtest.local_service import LocalService, ServiceFailed


def test_empties_its_folder_unless_somebody_serves_it(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    first = LocalService(folder, {})
    assert first.port != first.fold_port
    (folder / "feedback.sqlite").write_text("learned")
    (folder / "appendonlydir").mkdir()

    assert LocalService(folder, {}, keep=True).run_id == first.run_id
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(ServiceFailed, match="still running"):
            LocalService(folder, {})
    assert (folder / "feedback.sqlite").read_text() == "learned"

    assert LocalService(folder, {}).run_id != first.run_id
    assert sorted(path.name for path in folder.iterdir()) == ["lock", "run"]


def test_touches_no_folder_of_others(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("years")
    with pytest.raises(ServiceFailed, match="no run of ours made"):
        LocalService(tmp_path, {})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_names_of_its_own_only_where_servers_are_shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # no .env there
    for name in ("REDIS_URL", "KAFKA_BOOTSTRAP_SERVERS"):
        monkeypatch.delenv(name, raising=False)
    service = LocalService(tmp_path / "state", {})
    assert service.names == {}
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:6379")
    assert set(service.names) == {"KEY_PREFIX"}
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:9092")
    assert set(service.names) == {"KEY_PREFIX", "KAFKA_TOPIC", "KAFKA_DEAD_LETTER_TOPIC", "KAFKA_GROUP"}
    assert all(service.run_id in name for name in service.names.values())


def test_says_why_it_did_not_come_up(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    with (
        pytest.raises(ServiceFailed, match=r"(?s)ended with code 2.*service\.log.*SHARDS"),
        LocalService(folder, {"SHARDS": "none"}) as service,
    ):
        service.wait_until_ready()
    with (
        pytest.raises(ServiceFailed, match=r"not ready after 0 s"),
        LocalService(folder, {"BUNDLES": str(tmp_path / "bundles")}) as service,
    ):
        service.wait_until_ready(0.3)
    LocalService(folder, {})  # nothing of it is left running
