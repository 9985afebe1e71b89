"""Comparison: what is live against what should be, edge by edge and outcome by outcome. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bandit.statistics import EDGE_BYTES, FIELDS, SCALE, from_row
from service.store.keys import RowName
from service.verification.state import widened


class RowDifference(NamedTuple):
    """Edges of a row that differ: slots int64[n], and int64[n, 3] in units of 2⁻³⁰ as they are and should be."""

    name: RowName
    slots: NDArray[np.int64]
    live: NDArray[np.int64]
    expected: NDArray[np.int64]
    missing: bool

    @property
    def excess(self) -> NDArray[np.int64]:
        """What each edge holds too much, int64[n, 3]; negative where something was lost."""
        return self.live - self.expected


class TotalDifference(NamedTuple):
    """A count of a shard's books that differs."""

    shard: int
    outcome: str
    live: int
    expected: int


class Comparison(NamedTuple):
    """All that was compared."""

    edges: int
    rows: int
    row_differences: list[RowDifference]
    total_differences: list[TotalDifference]

    @property
    def equal(self) -> bool:
        """Whether nothing differs."""
        return not self.row_differences and not self.total_differences

    def figures(self) -> dict[str, object]:
        """The comparison in numbers; shortfall and excess are sums of d, n, b in their natural units."""
        parts = [difference.excess for difference in self.row_differences]
        excess = np.concatenate(parts) if parts else np.zeros((0, FIELDS), dtype=np.int64)
        return {
            "edges_compared": self.edges,
            "edges_different": len(excess),
            "lost": int((excess < 0).any(axis=1).sum()),
            "counted_twice": int((excess > 0).any(axis=1).sum()),
            "shortfall": (np.minimum(excess, 0).sum(axis=0) / -SCALE + 0.0).tolist(),
            "excess": (np.maximum(excess, 0).sum(axis=0) / SCALE).tolist(),
            "rows_compared": self.rows,
            "rows_different": len(self.row_differences),
            "rows_missing": sum(difference.missing for difference in self.row_differences),
            "totals_different": len(self.total_differences),
        }


def compare_row(name: RowName, live: bytes, expected: NDArray[np.int64]) -> tuple[int, RowDifference | None]:
    """How many edges hold anything on either side, and those that differ."""
    slots = max(len(expected), -(-len(live) // EDGE_BYTES))
    found, wanted = widened(sums_of(live), slots), widened(expected, slots)
    compared = int((found.any(axis=1) | wanted.any(axis=1)).sum())
    (differing,) = np.nonzero((found != wanted).any(axis=1))
    if not len(differing):
        return compared, None
    return compared, RowDifference(name, differing, found[differing], wanted[differing], not live)


def sums_of(row: bytes) -> NDArray[np.int64]:
    """A row as Redis holds it, as int64[n, 3]. It may end anywhere: what its last edge lacks is zero."""
    slots = -(-len(row) // EDGE_BYTES)
    return from_row(row.ljust(slots * EDGE_BYTES, b"\0"), slots)


def compare_totals(shard: int, live: Mapping[str, int], expected: Mapping[str, int]) -> list[TotalDifference]:
    """The outcomes whose counts differ; one that is not there counts 0."""
    return [
        TotalDifference(shard, outcome, live.get(outcome, 0), expected.get(outcome, 0))
        for outcome in sorted(live.keys() | expected.keys())
        if live.get(outcome, 0) != expected.get(outcome, 0)
    ]
