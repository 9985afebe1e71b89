"""Streams on several servers, followed at once: one blocking read a shard, each on a thread that mostly sleeps.

A blocking read of a cluster covers the keys of one slot alone. Reads that have not answered yet go on between calls, so
that no shard waits for another, and news of any of them wakes the caller.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait

from service.store.changes import Change

Read = Callable[[int, str, int], list[Change]]


class Streams:
    """Reads of every shard, under way or to be begun."""

    def __init__(self, shards: int, read: Read) -> None:
        """`read(shard, after, block_ms)` waits for a shard's entries after an id."""
        self._read = read
        self._threads = ThreadPoolExecutor(shards, thread_name_prefix="streams")
        self._reads: dict[int, tuple[str, Future[list[Change]]]] = {}

    def changes(self, after: Mapping[int, str], block_ms: int) -> dict[int, list[Change]]:
        """Entries after an id by shard, as soon as any shard has some; {} if none came within `block_ms`.

        Raises what a read raises: what others have answered meanwhile is read again when it is asked for again.
        """
        deadline = time.monotonic() + block_ms / 1000
        left_ms = block_ms
        while True:
            for shard, last in after.items() if left_ms > 0 else ():
                if shard not in self._reads or self._reads[shard][0] != last:
                    self._reads[shard] = last, self._threads.submit(self._read, shard, last, left_ms)
            reads = {shard: read for shard, (last, read) in self._reads.items() if after.get(shard) == last}
            if not reads:
                return {}
            ended, _ = wait(reads.values(), return_when=FIRST_COMPLETED)
            for shard, read in reads.items():
                if read in ended:
                    del self._reads[shard]
            if news := {shard: found for shard, read in reads.items() if read in ended and (found := read.result())}:
                return news
            left_ms = math.ceil(1000 * (deadline - time.monotonic()))

    def close(self) -> None:
        """Begin no more reads; wait for those under way, or their connections would outlive their client."""
        self._threads.shutdown(wait=True, cancel_futures=True)
