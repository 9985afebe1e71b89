"""Deliberate bugs in the fold, each of which the state machine must catch. Nothing in the product switches them on."""

from collections.abc import Callable, Sequence
from typing import Any, cast
from weakref import WeakSet

import numpy as np
import pytest

from service.feedback_log.base import LogReset, Record
from service.fold import partition
from service.fold.partition import Batch, PartitionFold
from service.fold.process import FoldProcess
from service.fold.window import Window
from service.store import redis as redis_store
from service.store.deltas import Limits, ShardDeltas
from tests.service.fold.faults import FaultyStore
from tests.service.fold.memory_log import MemorySubscription

Answers = list[tuple[bool, int]]


def deltas_and_watermark_in_two_calls(patch: pytest.MonkeyPatch) -> None:
    """What is added and how far it goes are told to Redis one after the other."""
    whole = FaultyStore.fold

    def fold(self: FaultyStore, field: str, shards: Sequence[ShardDeltas], limits: Limits) -> Answers:
        whole(self, field, [delta._replace(following=delta.expected) for delta in shards], limits)
        nothing: dict[str, Any] = {"rows": [], "users": [], "times": np.zeros(0, dtype=np.int64), "totals": {}}
        return whole(self, field, [delta._replace(**nothing) for delta in shards], limits)

    patch.setattr(FaultyStore, "fold", fold)


def watermark_not_compared(patch: pytest.MonkeyPatch) -> None:
    """Deltas are added whatever the watermark is."""
    compared = FaultyStore.fold

    def fold(self: FaultyStore, field: str, shards: Sequence[ShardDeltas], limits: Limits) -> Answers:
        actual = [int(cast(bytes, self.client.hget(self.keys.watermarks(at.shard), field) or b"0")) for at in shards]
        blind = [
            delta._replace(expected=found, following=max(found, delta.following))
            for delta, found in zip(shards, actual, strict=True)
        ]
        return compared(self, field, blind, limits)

    patch.setattr(FaultyStore, "fold", fold)


def window_not_read_back(patch: pytest.MonkeyPatch) -> None:
    """Who takes over begins with an empty window."""

    def start_empty(self: PartitionFold, offset: int) -> None:
        self._window, self._next = Window(self._window_records), self.position

    patch.setattr(PartitionFold, "_fill_window", start_empty)


def window_kept_on_a_seek_back(patch: pytest.MonkeyPatch) -> None:
    """A fold that reads records again finds them in its window."""
    fill = PartitionFold._fill_window
    filled: WeakSet[PartitionFold] = WeakSet()

    def fill_once(self: PartitionFold, offset: int) -> None:
        if self in filled:
            self._next = self.position
        else:
            fill(self, offset)
            filled.add(self)

    patch.setattr(PartitionFold, "_fill_window", fill_once)


def shard_filter_skipped(patch: pytest.MonkeyPatch) -> None:
    """A replay adds to every shard that lacks some of it all of it."""
    filtered = PartitionFold._deltas

    def unfiltered(self: PartitionFold, batch: Batch, following: int) -> list[ShardDeltas]:
        held, self.watermarks = self.watermarks, [min(self.watermarks)] * len(self.watermarks)
        found = filtered(self, batch, following)
        self.watermarks = held
        return [delta._replace(expected=held[delta.shard]) for delta in found if held[delta.shard] < following]

    patch.setattr(PartitionFold, "_deltas", unfiltered)


def epoch_ignored(patch: pytest.MonkeyPatch) -> None:
    """Offsets are taken to mean the same in every log."""

    def field(epoch: bytes, number: int) -> str:
        return f"{number}"

    patch.setattr(partition, "watermark_field", field)
    patch.setattr(redis_store, "watermark_field", field)
    patch.setattr(FoldProcess, "_confirm_epoch", lambda self: None)


def reset_to_the_end(patch: pytest.MonkeyPatch) -> None:
    """Where a position lies outside the log, reading goes on at the log's end."""
    named, inside = PartitionFold.start, MemorySubscription._next

    def start(self: PartitionFold, watermarks: Sequence[int], begun: int = 0) -> int:
        try:
            return named(self, watermarks, begun)
        except LogReset:
            end = self._log.bounds(self.partition)[1]
            for shard in range(self._store.keys.shards):
                self._store.client.hset(self._store.keys.watermarks(shard), self._field, str(end))
            return named(self, [end] * self._store.keys.shards)

    def jump(self: MemorySubscription, limit: int) -> dict[int, list[Record]]:
        ends = self._log.ends()
        for number, position in self._positions.items():
            if not self._topic.starts[number] <= position <= ends[number]:
                self._positions[number] = ends[number]
        return inside(self, limit)

    patch.setattr(PartitionFold, "start", start)
    patch.setattr(MemorySubscription, "_next", jump)


MUTANTS: tuple[Callable[[pytest.MonkeyPatch], None], ...] = (
    deltas_and_watermark_in_two_calls,
    watermark_not_compared,
    window_not_read_back,
    window_kept_on_a_seek_back,
    shard_filter_skipped,
    epoch_ignored,
    reset_to_the_end,
)
