"""Changes: what a replica reads in a shard's change stream."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.store.deltas import EDGE_DTYPE, TIME_DTYPE
from service.store.keys import RowName


class Tail(NamedTuple):
    """Where a change stream ends: its last id and how many entries it ever had."""

    id: str
    sequence: int


class RowChange(NamedTuple):
    """New absolute values of some slots of a row: slots int64[n], sums int64[n, 3]."""

    name: RowName
    slots: NDArray[np.int64]
    sums: NDArray[np.int64]


class Change(NamedTuple):
    """An entry of a change stream; `append_ms` and `events` (int64[n]): how many events were accepted when."""

    id: str
    sequence: int
    append_ms: NDArray[np.int64]
    events: NDArray[np.int64]
    rows: list[RowChange]


def decode(entry: tuple[bytes, dict[bytes, bytes]]) -> Change:
    """Read an entry as Redis answers it: its id and its fields."""
    entry_id, fields = entry
    times = np.frombuffer(fields.pop(b"times"), dtype=TIME_DTYPE)
    sequence = int(fields.pop(b"sequence"))
    rows = []
    for name, blob in fields.items():
        edges = np.frombuffer(blob, dtype=EDGE_DTYPE)
        rows.append(
            RowChange(RowName.parse(name.decode()), edges["slot"].astype(np.int64), edges["sums"].astype(np.int64))
        )
    return Change(
        entry_id.decode(), sequence, times["append_ms"].astype(np.int64), times["events"].astype(np.int64), rows
    )
