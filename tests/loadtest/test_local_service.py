"""The child service's folder, ports and end; that it serves is shown by the demo's own test."""

from __future__ import annotations

import fcntl
from pathlib import Path

import pytest

from loadtest.local_service import LocalService, ServiceFailed


def test_claims_its_folder(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    first = LocalService(folder, {})
    (folder / "feedback.sqlite").write_text("learned")
    (folder / "appendonlydir").mkdir()
    assert first.port != first.fold_port
    with pytest.raises(ServiceFailed, match="still running"):
        LocalService(folder, {})
    first.close()

    kept = LocalService(folder, {}, keep=True)
    assert kept.run_id == first.run_id
    assert (folder / "feedback.sqlite").read_text() == "learned"
    kept.close()

    fresh = LocalService(folder, {})
    assert fresh.run_id != first.run_id
    assert [path.name for path in folder.iterdir()] == ["run"]
    fresh.close()


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
    service.close()


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
    with (folder / "run").open("a") as marker:
        fcntl.flock(marker, fcntl.LOCK_EX | fcntl.LOCK_NB)  # nothing of it is left running
