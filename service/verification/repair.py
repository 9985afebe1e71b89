"""Repair: rows and totals that differ are set to what the log says, a shard only while its watermarks stand still.

Redis compares the watermarks with those that the values belong to and writes in one step. Under traffic a shard's
watermarks move on: the recomputation is taken up to where they are now, and it is tried again, a bounded number of
times.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from service.store.deltas import EDGE_DTYPE, STREAM_ENTRIES
from service.store.redis import Store
from service.verification import live
from service.verification.comparison import RowDifference, TotalDifference
from service.verification.live import Piece, Watermarks
from service.verification.state import widened
from service.verification.verifier import Pass, Verifier

TRIES = 200
PAUSE_S = 0.02
ROWS_IN_A_CALL = 256


class Repaired(NamedTuple):
    """What was set right, and the shards that could not be, with the reason."""

    edges: int
    totals: int
    failed: dict[int, str]


class Part(NamedTuple):
    """What one call sets right in a shard."""

    shard: int
    rows: Sequence[RowDifference]
    totals: Sequence[TotalDifference]

    @property
    def edges(self) -> int:
        """How many edges it sets."""
        return sum(len(row.slots) for row in self.rows)


def repair(verifier: Verifier, found: Pass, call_edges: int) -> Repaired:
    """Set right what a pass found, at most `call_edges` edges a call.

    Raises:
        LogReset, LogUnavailable, BundleMissing: the recomputation cannot go on; what was set right stays.
        redis.RedisError: Redis cannot be reached.
    """
    edges = totals = 0
    failed: dict[int, str] = {}
    for part in parts(found, verifier.store.keys.shards, call_edges):
        if part.shard in failed:
            continue
        failure = _set_right(verifier, found, part)
        if failure is None:
            edges += part.edges
            totals += len(part.totals)
        else:
            failed[part.shard] = failure
    return Repaired(edges, totals, failed)


def parts(found: Pass, shards: int, call_edges: int) -> Iterator[Part]:
    """The differences in portions that one call may take: a shard's totals first, then its rows."""
    for shard in range(shards):
        books = [total for total in found.comparison.total_differences if total.shard == shard]
        if books:
            yield Part(shard, [], books)
        taken: list[RowDifference] = []
        for row in found.comparison.row_differences:
            if row.name.cluster % shards != shard:
                continue
            for portion in _portions(row, call_edges):
                if taken and (Part(shard, [*taken, portion], []).edges > call_edges or len(taken) == ROWS_IN_A_CALL):
                    yield Part(shard, taken, [])
                    taken = []
                taken.append(portion)
        if taken:
            yield Part(shard, taken, [])


def _portions(row: RowDifference, most: int) -> Iterator[RowDifference]:
    for at in range(0, len(row.slots), most):
        some = slice(at, at + most)
        yield row._replace(slots=row.slots[some], live=row.live[some], expected=row.expected[some])


def _set_right(verifier: Verifier, found: Pass, part: Part) -> str | None:
    """Try until the shard's watermarks stand still for a moment; why it could not be done."""
    why = ""
    for _ in range(TRIES):
        watermarks = live.watermarks_of(verifier.store, verifier.epoch, verifier.partitions, part.shard)
        values = _values(found, part, watermarks)
        if values is None:
            why = "its watermarks lie behind what was compared, and stay there: let the fold catch up, then try again"
            time.sleep(PAUSE_S)
        elif _call(verifier.store, part, watermarks, *values):
            return None
        else:
            why = "its watermarks moved on each time: try again with less traffic, or stop the fold meanwhile"
    return f"tried {TRIES} times, {why}"


Values = tuple[list[bytes], dict[str, int]]


def _values(found: Pass, part: Part, watermarks: Watermarks) -> Values | None:
    """What the part's edges and totals should be at these watermarks; None if that cannot be told any more."""
    pieces = [found.cut.rows[row.name] for row in part.rows] or [found.cut.totals[part.shard]]
    recomputed = found.recomputation
    if all(_stand(piece, watermarks) for piece in pieces):
        return [_edges(row, recomputed.row(row.name)) for row in part.rows], recomputed.totals(part.shard)
    state = recomputed.state
    if any(offset < at for offset, at in zip(watermarks.offsets, state.positions, strict=True)):
        return None
    for partition, offset in enumerate(watermarks.offsets):
        recomputed.advance(partition, offset)
    return [_edges(row, state.rows.get(row.name)) for row in part.rows], state.totals[part.shard]


def _stand(piece: Piece, watermarks: Watermarks) -> bool:
    return piece.watermarks.offsets == watermarks.offsets


def _edges(row: RowDifference, sums: Any) -> bytes:
    packed = np.empty(len(row.slots), dtype=EDGE_DTYPE)
    last = int(row.slots[-1]) + 1
    packed["slot"] = row.slots
    packed["sums"] = widened(sums, max(last, 0 if sums is None else len(sums)))[row.slots]
    return packed.tobytes()


def _call(store: Store, part: Part, watermarks: Watermarks, rows: Sequence[bytes], totals: dict[str, int]) -> bool:
    keys = store.keys
    names = [keys.row(row.name) for row in part.rows]
    arguments: list[Any] = [STREAM_ENTRIES, len(watermarks.fields)]
    for field, value in watermarks.fields.items():
        arguments += [field, value]
    arguments.append(len(part.totals))
    for total in part.totals:
        arguments += [total.outcome, totals.get(total.outcome, 0)]
    store_keys = [keys.watermarks(part.shard), keys.changes(part.shard), keys.totals(part.shard), *names]
    return bool(store.client.fcall("om_repair", len(store_keys), *store_keys, *arguments, *rows))
