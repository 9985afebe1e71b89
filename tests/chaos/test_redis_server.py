"""A server whose last second is cut off must have forgotten it, and nothing else."""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.ports import free_ports
from tests.chaos.redis_server import AppendOnlyFile, is_up, read_copy
from tests.redis_cluster import RedisNode
from tests.service.servers import until


@pytest.fixture
def node(tmp_path: Path) -> Iterator[RedisNode]:
    node = RedisNode(tmp_path / "redis", free_ports(1)[0])
    node.start()
    until(lambda: is_up(node))
    yield node
    node.kill()


def test_the_last_second_is_gone_and_what_was_before_is_there(node: RedisNode, tmp_path: Path) -> None:
    file = AppendOnlyFile(node.folder)
    with node.client() as client:
        client.set("long ago", 1)
        written_at = time.monotonic()
        until(lambda: time.monotonic() > written_at + 1.5)
        client.set("just now", 1)
    node.kill()
    file.cut()
    copy = read_copy(file, tmp_path / "copy")
    with copy.client() as client:
        assert client.keys() == [b"long ago"]
    copy.kill()
    node.start()
    until(lambda: is_up(node))
    with node.client() as client:
        assert client.keys() == [b"long ago"]
    file.stop()
