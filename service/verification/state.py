"""State: what a log comes to, up to a position in each of its partitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from bandit.statistics import FIELDS
from service.store.keys import RowName, watermark_field
from service.verification.memory import Memory

Rows = dict[RowName, NDArray[np.int64]]


class Beginning(NamedTuple):
    """Where counting began.

    Attributes:
        epoch: of the log.
        offsets: int64[P, S], the first offset that each shard counts of each partition.
        earlier: watermarks at which logs of earlier epochs were left, by field.
    """

    epoch: bytes
    offsets: NDArray[np.int64]
    earlier: Mapping[str, int]


@dataclass
class State:
    """Statistics and books up to `positions`, and what is needed to go on from there.

    Attributes:
        beginning: where counting began.
        positions: one a partition, the next offset to count; what lies before it is counted in every shard.
        rows: int64[n, 3] in units of 2⁻³⁰, columns d, n, b; slots past a row's end were never touched.
        totals: one a shard, events by outcome.
        memories: one a partition; None where the window must be filled from the log.
    """

    beginning: Beginning
    positions: list[int]
    rows: Rows = field(default_factory=dict)
    totals: list[dict[str, int]] = field(default_factory=list)
    memories: list[Memory | None] = field(default_factory=list)

    @classmethod
    def at(cls, beginning: Beginning) -> Self:
        """Nothing counted yet."""
        partitions, shards = beginning.offsets.shape
        first: list[int] = beginning.offsets.min(axis=1).tolist()
        return cls(beginning, first, {}, [{} for _ in range(shards)], [None] * partitions)

    def carried_over(self, beginning: Beginning) -> State:
        """This state as the start of a log that was made anew."""
        return State(beginning, State.at(beginning).positions, self.rows, self.totals, [None] * len(self.positions))

    def left(self) -> dict[str, int]:
        """The watermarks at which this state leaves its log and those before it, by field; those at 0 are left out."""
        own = {watermark_field(self.beginning.epoch, p): position for p, position in enumerate(self.positions)}
        return {name: offset for name, offset in ({**self.beginning.earlier} | own).items() if offset}


def add_row(rows: Rows, name: RowName, slots: NDArray[np.int64], sums: NDArray[np.int64]) -> None:
    """Add int64[n, 3] to distinct slots int64[n] of a row, which grows as it must."""
    held = rows.get(name)
    needed = int(slots.max()) + 1
    if held is None or len(held) < needed:
        grown = np.zeros((needed, FIELDS), dtype=np.int64)
        if held is not None:
            grown[: len(held)] = held
        rows[name] = held = grown
    held[slots] += sums


def add_totals(totals: dict[str, int], gained: Mapping[str, int]) -> None:
    """Add events by outcome."""
    for outcome, count in gained.items():
        if count:
            totals[outcome] = totals.get(outcome, 0) + count


def widened(sums: NDArray[np.int64] | None, slots: int) -> NDArray[np.int64]:
    """A row's int64[n, 3] as int64[slots, 3], zero where it was never touched; `slots` is at least n."""
    found = np.zeros((slots, FIELDS), dtype=np.int64)
    if sums is not None:
        found[: len(sums)] = sums
    return found


def all_equal(values: Sequence[object]) -> bool:
    """Whether they are the same throughout."""
    return all(value == values[0] for value in values)
