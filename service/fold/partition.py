"""One partition of the feedback log, folded in order: the exactly-once step and what surrounds it.

The watermark lies beside the statistics and moves with them, in one function call a shard. So a batch may be repeated,
raced by another fold, or cut off half way: each shard takes exactly the records from its own watermark on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from bandit.manifest import Manifest
from service.feedback_log.base import FeedbackLog, LogReset, Record
from service.fold.deltas import Edges, rows, spread, user_items
from service.fold.judgement import Judge, Tally
from service.fold.window import Window
from service.store.deltas import Limits, ShardDeltas, UserItems
from service.store.keys import watermark_field
from service.store.redis import Store


class RolledBack(Exception):  # noqa: N818 - names what happened
    """Redis holds less than we have added: the partition must be read again from `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"a shard went back to offset {offset}")
        self.offset = offset


class Batch(NamedTuple):
    """A judged batch, ready to be split by shard."""

    edges: Edges
    users: list[UserItems]
    tallies: list[Tally]


class PartitionFold:
    """Folds one partition; made anew whenever the partition is assigned or must be read again."""

    def __init__(
        self,
        partition: int,
        epoch: bytes,
        log: FeedbackLog,
        store: Store,
        judge: Judge,
        manifest: Callable[[str], Manifest],
        limits: Limits,
        window_records: int,
    ) -> None:
        self.partition = partition
        self.fenced = 0
        self._field = watermark_field(epoch, partition)
        self._log = log
        self._store = store
        self._judge = judge
        self._manifest = manifest
        self._limits = limits
        self._window_records = window_records
        self._window = Window(window_records)
        self.watermarks = [0] * store.keys.shards

    @property
    def position(self) -> int:
        """The next offset to read: the least watermark."""
        return min(self.watermarks)

    def start(self, watermarks: Sequence[int]) -> int:
        """Take over from the watermarks in Redis (one a shard), fill the window, and answer where to read on.

        Raises:
            LogReset: a watermark lies outside the log; it is never jumped.
            LogUnavailable: the log cannot be read.
        """
        self.watermarks = list(watermarks)
        first, end = self._log.bounds(self.partition)
        if max(watermarks) > end:
            raise LogReset(
                f"partition {self.partition}: the watermark {max(watermarks)} lies beyond the log's end {end}:"
                " the log lost records that were folded. Restore the log, or start anew with another KEY_PREFIX"
            )
        if self.position < first:
            raise LogReset(
                f"partition {self.partition}: the watermark {self.position} lies before the log's start {first}:"
                " retention took records that were not folded. Restore Redis from a newer copy, or, to count from the"
                " log's start with a KEY_PREFIX that holds nothing yet, start the fold with --begin"
            )
        self._window = Window(self._window_records)
        offset = max(first, self.position - self._window_records)
        while records := self._log.read(self.partition, offset, self.position):
            self._judge.judge(self.partition, records, self._window)
            offset = records[-1].offset + 1
        return self.position

    def fold(self, records: Sequence[Record]) -> None:
        """Fold records, the first of which lies at `position`.

        Raises:
            RolledBack: Redis went back to before the batch.
            redis.RedisError: some shards may have added; start again from the watermarks.
            LogUnavailable: dead letters could not be kept; nothing was added.
        """
        judgement = self._judge.judge(self.partition, records, self._window)
        new_letters = [letter for letter in judgement.dead_letters if letter.offset >= self.position]
        if new_letters:
            self._log.dead_letter(new_letters)
        credited = judgement.credits
        batch = Batch(spread(credited, self._manifest), user_items(credited), judgement.tallies)
        self._add(batch, [record.offset for record in records])

    def _add(self, batch: Batch, offsets: Sequence[int]) -> None:
        """Bring every shard's watermark past `offsets`, in halves where a call would touch too many edges."""
        following = offsets[-1] + 1
        while behind := [shard for shard, watermark in enumerate(self.watermarks) if watermark < following]:
            deltas = [self._deltas(batch, shard, following) for shard in behind]
            too_long = any(sum(len(row.slots) for row in delta.rows) > self._limits.edges for delta in deltas)
            if too_long and len(offsets) > 1:
                half = len(offsets) // 2
                self._add(batch, offsets[:half])
                self._add(batch, offsets[half:])
                return
            for delta, (added, watermark) in zip(
                deltas, self._store.fold(self._field, deltas, self._limits), strict=True
            ):
                self.watermarks[delta.shard] = watermark
                self.fenced += not added
            if self.position < offsets[0]:
                raise RolledBack(self.position)

    def _deltas(self, batch: Batch, shard: int, following: int) -> ShardDeltas:
        """What `shard` lacks of the batch before `following`."""
        expected, keys = self.watermarks[shard], self._store.keys
        edges = batch.edges
        lacking = (edges.offset >= expected) & (edges.offset < following)
        mine = lacking & (edges.cluster % keys.shards == shard)
        users = [
            items
            for items in batch.users
            if expected <= items.offset < following and keys.shard_of_user(items.user) == shard
        ]
        totals: dict[str, int] = {}
        if shard == self.partition % keys.shards:
            for tally in batch.tallies:
                if expected <= tally.offset < following:
                    for outcome, count in zip(tally._fields[1:], tally[1:], strict=True):
                        totals[outcome] = totals.get(outcome, 0) + count
        # An event's record lies at one offset, so offsets tell the events of this shard apart.
        _, first = np.unique(edges.offset[mine], return_index=True)
        return ShardDeltas(
            shard, expected, following, rows(edges, mine), users, edges.append_ms[mine][first], _nonzero(totals)
        )


def _nonzero(totals: dict[str, int]) -> dict[str, int]:
    return {outcome: count for outcome, count in totals.items() if count}
