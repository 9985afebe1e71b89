"""Recomputation: a state moved on along the log, record by record, as the fold would judge them.

It knows the cut that it will be compared with: what it counts that lies beyond a row's cut is kept apart, to be taken
off again. So every row is compared at its own watermarks, and nothing of the log is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from operator import attrgetter

import numpy as np
from numpy.typing import NDArray

from bandit.manifest import Manifest
from service.feedback_log.base import FeedbackLog, LogReset, Record
from service.fold.deltas import Edges, rows, spread
from service.fold.judgement import Judge, Tally
from service.store.keys import RowName
from service.verification.live import Cut, Piece
from service.verification.memory import RememberingWindow
from service.verification.state import Rows, State, add_row, add_totals, widened

RECORDS_AT_A_TIME = 1000
OUTCOMES = ("folded", "duplicates", "late", "dead_lettered", "implied")
_counts = attrgetter(*OUTCOMES)


class Recomputation:
    """A state, and the log that moves it on."""

    def __init__(
        self,
        state: State,
        cut: Cut,
        log: FeedbackLog,
        judge: Judge,
        manifest: Callable[[str], Manifest],
        window_records: int,
        progress: Callable[[int], None] = lambda _: None,
    ) -> None:
        """`progress` is told how many records were read, again and again."""
        self.state = state
        self.records = 0
        self._cut = cut
        self._log = log
        self._judge = judge
        self._manifest = manifest
        self._window_records = window_records
        self._progress = progress
        self._shards = len(state.totals)
        self._windows: dict[int, RememberingWindow] = {}
        self._rows_beyond: Rows = {}
        self._totals_beyond: list[dict[str, int]] = [{} for _ in state.totals]

    def advance(self, partition: int, until: int) -> None:
        """Count a partition up to the offset `until`; nothing happens if that is counted already.

        Raises:
            LogReset: the log does not hold these records.
            LogUnavailable: it cannot be read.
            BundleMissing: a token names a version that cannot be had.
        """
        position = self.state.positions[partition]
        if position >= until:
            return
        if partition not in self._windows:
            self._windows[partition] = self._window(partition)
        for records in self._read(partition, position, until):
            self._count(partition, *_judged(self._judge, partition, records, self._windows[partition], self._manifest))
            self.state.positions[partition] = records[-1].offset + 1
            self.records += len(records)
            self._progress(len(records))

    def rest(self, partition: int) -> None:
        """Put a partition's window into a small form."""
        window = self._windows.pop(partition, None)
        if window is not None:
            self.state.memories[partition] = window.memory()

    def row(self, name: RowName) -> NDArray[np.int64]:
        """What a row should hold at its cut: int64[n, 3]."""
        counted, beyond = self.state.rows.get(name), self._rows_beyond.get(name)
        if counted is None:
            return widened(None, 0)
        return counted if beyond is None else counted - widened(beyond, len(counted))

    def totals(self, shard: int) -> dict[str, int]:
        """What a shard's books should say at their cut, without noughts."""
        beyond = self._totals_beyond[shard]
        found = {outcome: count - beyond.get(outcome, 0) for outcome, count in self.state.totals[shard].items()}
        return {outcome: count for outcome, count in found.items() if count}

    def unread(self) -> set[RowName]:
        """Rows that should hold something at the cut and were not read: they have vanished, or appeared since."""
        missing = self.state.rows.keys() - self._cut.rows.keys()
        return {name for name in missing if self.row(name).any()}

    def takes(self, piece: Piece) -> bool:
        """Whether rows of `unread`, read only now, can be compared; if so they belong into the cut."""
        offsets = piece.watermarks.offsets
        if offsets == self._cut.totals[piece.shard].watermarks.offsets:
            return True
        if any(offset < position for offset, position in zip(offsets, self.state.positions, strict=True)):
            return False
        for name in piece.rows:
            self._rows_beyond.pop(name, None)
        return True

    def _window(self, partition: int) -> RememberingWindow:
        memory = self.state.memories[partition]
        if memory is not None:
            return RememberingWindow.recall(memory, self._window_records)
        # Counting begins as a fold does that starts there.
        window = RememberingWindow(self._window_records)
        position = self.state.positions[partition]
        first = max(self._log.bounds(partition)[0], position - self._window_records)
        for records in self._read(partition, first, position):
            self._judge.judge(partition, records, window)
        return window

    def _read(self, partition: int, start: int, stop: int) -> Iterator[Sequence[Record]]:
        while start < stop:
            records = self._log.read(partition, start, stop)
            # A gap may be one of the log's own: transactions leave some in Kafka, where no record was ever readable.
            if not records or (records[0].offset != start and self._log.bounds(partition)[0] > start):
                raise LogReset(
                    f"partition {partition}: the log holds {self._log.bounds(partition)}, not the record {start}:"
                    " retention took it while it was waited for. Verify again"
                )
            for at in range(0, len(records), RECORDS_AT_A_TIME):
                yield records[at : at + RECORDS_AT_A_TIME]
            start = records[-1].offset + 1

    def _count(self, partition: int, edges: Edges, tallies: Sequence[Tally]) -> None:
        begins = self.state.beginning.offsets[partition]
        begun = edges.offset >= begins[edges.cluster % self._shards]
        _add_edges(self.state.rows, edges, begun)
        shard = partition % self._shards
        counted = [tally for tally in tallies if tally.offset >= begins[shard]]
        _add_tallies(self.state.totals[shard], counted)
        if tallies[-1].offset >= self._cut.least(partition):
            _add_edges(self._rows_beyond, edges, begun & (edges.offset >= self._cuts(partition, edges)))
            end = self._cut.of_totals(shard, partition)
            _add_tallies(self._totals_beyond[shard], [tally for tally in counted if tally.offset >= end])

    def _cuts(self, partition: int, edges: Edges) -> NDArray[np.int64]:
        """For every entry the watermark that its row was read at: int64[m]."""
        if not len(edges.offset):
            return edges.offset
        touched, of = np.unique(np.stack([edges.group, edges.cluster], axis=1), axis=0, return_inverse=True)
        cuts = []
        for group, cluster in touched.tolist():
            namespace, version = edges.groups[group]
            cuts.append(self._cut.of_row(RowName(namespace, version, cluster), partition))
        return np.array(cuts)[of.ravel()]


def _judged(
    judge: Judge,
    partition: int,
    records: Sequence[Record],
    window: RememberingWindow,
    manifest: Callable[[str], Manifest],
) -> tuple[Edges, Sequence[Tally]]:
    """What records come to. The one place that knows the fold's insides."""
    judgement = judge.judge(partition, records, window)
    return spread(judgement.credits, manifest), judgement.tallies


def _add_edges(sums: Rows, edges: Edges, kept: NDArray[np.bool_]) -> None:
    for row in rows(edges, kept):
        add_row(sums, RowName(row.namespace, row.version, row.cluster), row.slots, row.sums)


def _add_tallies(totals: dict[str, int], tallies: Sequence[Tally]) -> None:
    for tally in tallies:
        add_totals(totals, dict(zip(OUTCOMES, _counts(tally), strict=True)))
