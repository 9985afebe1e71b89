"""How far Redis went back: its watermarks before it was killed, against those in what is left of its file."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import numpy as np
import redis
from numpy.typing import NDArray

from service.store.redis import Store
from tests.chaos.redis_server import AppendOnlyFile, read_copy
from tests.service.servers import until


def rolled_back(
    store: Store, epoch: bytes, partitions: int, kill: Callable[[], None], file: AppendOnlyFile, copy: Path
) -> int:
    """Kill a server and cut its file; how many records of all partitions some shard of it must take again."""
    before = _watermarks(store, epoch, partitions)
    kill()
    file.cut()
    reader = read_copy(file, copy)
    try:
        with reader.client() as client:
            left = Store(client, store.keys)
            after = _watermarks(left, epoch, partitions)
            # A master of a cluster holds some shards only; a server that forgot everything holds none.
            here = [shard for shard in range(store.keys.shards) if client.exists(store.keys.watermarks(shard))]
    finally:
        reader.kill()
    return int(np.maximum(before - after, 0)[:, here].max(axis=1, initial=0).sum())


def _watermarks(store: Store, epoch: bytes, partitions: int) -> NDArray[np.int64]:
    """Every shard's watermark of every partition, int64[P, S]."""
    found: dict[int, list[int]] = {}

    def answered() -> bool:
        with suppress(redis.RedisError):  # it may just be up again after the kill before
            found.update(store.watermarks(epoch, range(partitions)))
        return bool(found)

    until(answered)
    return np.array([found[partition] for partition in range(partitions)])
