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
        """`folder` is the server's own."""
        self._folder = folder / "appendonlydir"
        self._lengths: deque[tuple[float, Path, int]] = deque(maxlen=1000)
        self._done = Event()
        self._thread = Thread(target=self._look, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Take off what was written in the last second before now; only while the server is dead."""
        before = time.monotonic() - FORGETS_S
        path = self._file()
        assert path is not None
        lengths = [length for at, of, length in list(self._lengths) if at <= before and of == path]
        length = min(lengths[-1] if lengths else 0, path.stat().st_size)
        with path.open("r+b") as file:
            file.truncate(length)
        self._lengths.append((before, path, length))

    def copy(self, folder: Path) -> None:
        """Copy what is left into another server's folder."""
        shutil.copytree(self._folder, folder / "appendonlydir")

    def stop(self) -> None:
        self._done.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._done.wait(LOOK_EVERY_S):
            if (path := self._file()) is not None:
                self._lengths.append((time.monotonic(), path, path.stat().st_size))

    def _file(self) -> Path | None:
        """The file that grows; a rewrite begins another."""
        return max(self._folder.glob("*.incr.aof"), key=lambda path: path.stat().st_mtime, default=None)


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
