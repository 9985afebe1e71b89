"""One partition of the feedback log, folded in order: the exactly-once step and what surrounds it.

The watermark lies beside the statistics and moves with them, in one function call a shard. So a batch may be repeated,
raced by another fold, or cut off half way: each shard takes exactly the records from its own watermark on.

A batch is folded in two steps: `judge` reads records and moves the window, `add` brings what they come to into Redis.
While one batch is added, on another thread, the next one may be judged; if adding fails, what was judged after it is
void, and so is the window: the partition starts anew.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import structlog
from numpy.typing import NDArray

from bandit.manifest import Manifest
from service.feedback_log.base import FeedbackLog, LogReset, Record
from service.fold.deltas import Edges, rows, spread, user_items
from service.fold.judgement import Judge, Tally, totals
from service.fold.window import Window
from service.store.deltas import Limits, Row, ShardDeltas, UserItems
from service.store.keys import watermark_field
from service.store.redis import Store

logger = structlog.get_logger(__name__)


class RolledBack(Exception):  # noqa: N818 - names what happened
    """Redis holds less than we have added: the partition must be read again from `offset`."""

    def __init__(self, offset: int) -> None:
        super().__init__(f"a shard went back to offset {offset}")
        self.offset = offset


class Skipped(Exception):  # noqa: N818
    """Records came that do not follow the ones judged last: the partition must be read again."""


class Batch(NamedTuple):
    """A judged batch, ready to be split by shard; `users` by shard, `offsets` of its records, at least one."""

    edges: Edges
    users: Mapping[int, Sequence[UserItems]]
    tallies: Sequence[Tally]
    offsets: Sequence[int]
    append_ms: int


class PartitionFold:
    """Folds one partition, from `start` on."""

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
        most_lag_ms: float = math.inf,
    ) -> None:
        """`most_lag_ms`: how long after its append a record may be judged without those that retention has taken."""
        self.partition = partition
        self.fenced = 0
        # Append time of the last record that was folded, Unix ms; 0 if that is not known.
        self.folded_ms = 0
        self._field = watermark_field(epoch, partition)
        self._log = log
        self._store = store
        self._judge = judge
        self._manifest = manifest
        self._limits = limits
        self._window_records = window_records
        self._most_lag_ms = most_lag_ms
        self._window = Window(window_records)
        # What the window stands before; None where it is not known to be whole.
        self._next: int | None = None
        self._letters_kept = 0
        self.watermarks = [0] * store.keys.shards
        # The watermarks that Redis has confirmed; found lower, it went back.
        self.reached = [0] * store.keys.shards

    @property
    def position(self) -> int:
        """The next offset to be added: the least watermark."""
        return min(self.watermarks)

    def start(self, watermarks: Sequence[int], begun: int = 0) -> int:
        """Take over from the watermarks in Redis (one a shard), fill the window, and answer where to read on.

        Args:
            watermarks: next offsets not yet folded, one a shard.
            begun: the offset at which counting began.

        Raises:
            LogReset: a watermark lies outside the log (it is never jumped), or the window cannot be known any more.
            LogUnavailable: the log cannot be read.
        """
        self.watermarks, self.reached = list(watermarks), list(watermarks)
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
        if self._next != self.position:
            oldest = max(begun, self.position - self._window_records)
            if first > oldest:
                self._check_lag(first)
            self._fill_window(max(first, self.position - self._window_records))
        return self.position

    def fold(self, records: Sequence[Record]) -> None:
        """Judge records and add them at once. Raises as `judge` and `add` do."""
        self.add(self.judge(records))

    def judge(self, records: Sequence[Record]) -> Batch:
        """What records come to, at least one, the first of which follows the one judged last.

        Raises:
            Skipped: it does not.
            LogUnavailable: dead letters could not be kept.
        """
        following, self._next = self._next, None
        self._check_follows(following, records[0].offset)
        judgement = self._judge.judge(self.partition, records, self._window)
        letters = [letter for letter in judgement.dead_letters if letter.offset >= self._letters_kept]
        if letters:
            self._log.dead_letter(letters)
        self._next = records[-1].offset + 1
        self._letters_kept = max(self._letters_kept, self._next)
        users: dict[int, list[UserItems]] = {}
        for items in user_items(judgement.credits):
            users.setdefault(self._store.keys.shard_of_user(items.user), []).append(items)
        offsets = [record.offset for record in records]
        edges = spread(judgement.credits, self._manifest)
        return Batch(edges, users, judgement.tallies, offsets, records[-1].append_ms)

    def add(self, batch: Batch) -> None:
        """Bring every shard past a batch.

        Raises:
            RolledBack: Redis went back to before the batch.
            redis.RedisError: some shards may have added; start again from the watermarks.
        """
        self._add(batch, batch.offsets)
        self.folded_ms = batch.append_ms

    def _fill_window(self, offset: int) -> None:
        """Judge the records from an offset to the position again, for the window alone."""
        self._next = None
        self._window = Window(self._window_records)
        while records := self._log.read(self.partition, offset, self.position):
            self._judge.judge(self.partition, records, self._window)
            offset, self.folded_ms = records[-1].offset + 1, records[-1].append_ms
        self._next = self.position
        # Who added these kept their dead letters before.
        self._letters_kept = max(self._letters_kept, self.position)

    def _check_lag(self, first: int) -> None:
        """What retention took of the window may hold an earlier copy of an event only if the fold is far behind."""
        waiting = self._log.read(self.partition, self.position, self.position + 1)
        if waiting and time.time_ns() / 1e6 - waiting[0].append_ms > self._most_lag_ms:
            raise LogReset(
                f"partition {self.partition}: the fold at {self.position} is so far behind that events could count"
                f" twice: the log starts at {first}, and earlier copies may have lain before. Replay the log into"
                " another prefix (python -m service fold --replay-from earliest), and keep LOG_RETENTION_S well above"
                " TOKEN_LIFE_S plus the longest outage"
            )

    def _check_follows(self, following: int | None, offset: int) -> None:
        """A gap must be one of the log's own: transactions leave some in Kafka, where no record was ever readable."""
        if following is None or offset < following:
            raise Skipped(f"partition {self.partition}: record {offset} came where {following} was expected")
        if offset > following and (missed := self._log.read(self.partition, following, offset)):
            raise Skipped(f"partition {self.partition}: record {missed[0].offset} was left out before {offset}")

    def _add(self, batch: Batch, offsets: Sequence[int]) -> None:
        """Bring every shard's watermark past `offsets`, in halves where a call would add too much."""
        following = offsets[-1] + 1
        while self.position < following:
            deltas = self._deltas(batch, following)
            if len(offsets) > 1 and any(delta.increments > self._limits.edges for delta in deltas):
                half = len(offsets) // 2
                self._add(batch, offsets[:half])
                self._add(batch, offsets[half:])
                return
            answers = self._store.fold(self._field, deltas, self._limits)
            for delta, (added, watermark) in zip(deltas, answers, strict=True):
                self.watermarks[delta.shard] = watermark
                self.reached[delta.shard] = max(watermark, self.reached[delta.shard])
                if not added:
                    self._say_fenced(delta, watermark)
            if self.position < offsets[0]:
                raise RolledBack(self.position)

    def _deltas(self, batch: Batch, following: int) -> list[ShardDeltas]:
        """What each shard lacks of the batch before `following`; a shard that lacks nothing is left out."""
        edges, shards = batch.edges, self._store.keys.shards
        shard, offset = edges.cluster % shards, edges.offset
        kept = (offset >= np.array(self.watermarks)[shard]) & (offset < following)
        # Which credits touch which shard: an event is heard of in each of them.
        heard = np.zeros((shards, len(edges.offsets)), dtype=np.bool_)
        heard[shard[kept], edges.credit[kept]] = True
        by_shard: dict[int, list[Row]] = {}
        for row in rows(edges, kept):
            by_shard.setdefault(row.cluster % shards, []).append(row)
        return [
            ShardDeltas(
                at,
                expected,
                following,
                by_shard.get(at, []),
                [items for items in batch.users.get(at, ()) if expected <= items.offset < following],
                _times(edges, heard[at]),
                totals(batch.tallies, expected, following) if at == self.partition % shards else {},
            )
            for at, expected in enumerate(self.watermarks)
            if expected < following
        ]

    def _say_fenced(self, delta: ShardDeltas, found: int) -> None:
        self.fenced += 1
        logger.warning("fenced", partition=self.partition, shard=delta.shard, expected=delta.expected, found=found)


def _times(edges: Edges, heard: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Append times of the records that a shard hears of, one each, however many credits they hold."""
    credit = np.flatnonzero(heard)
    first = np.diff(edges.offsets[credit], prepend=-1) != 0
    times: NDArray[np.int64] = edges.times[credit[first]]
    return times
