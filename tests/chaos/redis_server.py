"""A Redis that really forgets: killed, and the last second that it wrote cut off its append-only file."""

import shutil
import time
from collections import deque
from pathlib import Path
from threading import Event, Thread

import redis

from loadtest.ports import free_ports
from tests.redis_cluster import RedisNode
from tests.service.servers import until

FORGETS_S = 1.0
LOOK_EVERY_S = 0.05


class AppendOnlyFile:
    """Knows how long a server's append-only file was a second ago."""

    def __init__(self, folder: Path) -> None:
        """`folder` is the server's own; one file grows there, never rewritten (auto-aof-rewrite-percentage 0)."""
        self._folder = folder / "appendonlydir"
        self._lengths: deque[tuple[float, int]] = deque()
        self._done = Event()
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Take off what was written in the last second before now; only while the server is dead."""
        before = time.monotonic() - FORGETS_S
        length = next((length for at, length in reversed(list(self._lengths)) if at <= before), 0)
        (path,) = self._folder.glob("*.incr.aof")
        with path.open("r+b") as file:
            file.truncate(min(length, path.stat().st_size))
        self._lengths.clear()
        self._lengths.append((before, length))

    def copy(self, folder: Path) -> None:
        """Copy what is left into another server's folder."""
        shutil.copytree(self._folder, folder / "appendonlydir")

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            files = list(self._folder.glob("*.incr.aof"))
            if files:
                self._lengths.append((time.monotonic(), files[0].stat().st_size))
            while len(self._lengths) > 1000:
                self._lengths.popleft()


def read_copy(file: AppendOnlyFile, folder: Path) -> RedisNode:
    """Another server on a copy of what is left, to be asked what it holds; `kill` it then."""
    file.copy(folder)
    reader = RedisNode(folder, free_ports(1)[0], appendfsync="no")
    reader.start()
    until(lambda: is_up(reader))
    return reader


def is_up(node: RedisNode) -> bool:
    """Whether it has read its file and answers."""
    with node.client() as client:
        try:
            return bool(client.ping())
        except redis.RedisError:
            return False
