"""Visits: what happened on each, in columns that grow while the traffic runs."""

from __future__ import annotations

from array import array
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Visits(NamedTuple):
    """V visits, in the order in which they ended.

    Attributes:
        seconds: float64[V], since the traffic began.
        arm: int64[V], the arm that served it.
        shown: int64[V], impressions: the length of its slate.
        clicked: int64[V], how many of them were clicked.
        oracle_shown, oracle_clicked: int64[V], the same for the oracle's slate of that visit.
    """

    seconds: NDArray[np.float64]
    arm: NDArray[np.int64]
    shown: NDArray[np.int64]
    clicked: NDArray[np.int64]
    oracle_shown: NDArray[np.int64]
    oracle_clicked: NDArray[np.int64]

    def of_arm(self, arm: int) -> Visits:
        """The visits that one arm served."""
        return self.where(self.arm == arm)

    def where(self, mask: NDArray[np.bool_]) -> Visits:
        """The visits that bool[V] names."""
        return Visits(self.seconds[mask], *(column[mask] for column in self[1:]))


class VisitLog:
    """Appends visits; `visits` copies what there is so far."""

    def __init__(self) -> None:
        self._seconds = array("d")
        self._counts = tuple(array("q") for _ in Visits._fields[1:])

    def __len__(self) -> int:
        return len(self._seconds)

    def append(self, seconds: float, *counts: int) -> None:
        """Note one visit: the seconds and the other columns of `Visits`, in their order."""
        self._seconds.append(seconds)
        for column, count in zip(self._counts, counts, strict=True):
            column.append(count)

    def visits(self) -> Visits:
        """All visits so far."""
        arm, shown, clicked, oracle_shown, oracle_clicked = (
            np.array(column, dtype=np.int64) for column in self._counts
        )
        return Visits(np.array(self._seconds), arm, shown, clicked, oracle_shown, oracle_clicked)
