"""An entry of a change stream, as a replica reads it."""

import numpy as np

from service.store import changes
from service.store.deltas import EDGE_DTYPE, TIME_DTYPE
from service.store.keys import RowName


def test_an_entry_is_read_whole() -> None:
    times = np.array([(10, 1), (30, 2)], TIME_DTYPE)
    edges = np.array([(3, (1, 2, 2**60)), (500, (4, 5, 6))], EDGE_DTYPE)
    fields = {b"sequence": b"41", b"times": times.tobytes(), b"news:v-1.2:0:17": edges.tobytes()}
    change = changes.decode((b"1-7", fields))
    assert (change.id, change.sequence) == ("1-7", 41)
    assert change.append_ms.tolist() == [10, 30]
    assert change.events.tolist() == [1, 2]
    (row,) = change.rows
    assert row.name == RowName("news", "v-1.2", 17)
    assert row.slots.tolist() == [3, 500]
    assert row.sums.tolist() == [[1, 2, 2**60], [4, 5, 6]]
    assert row.sums.dtype == np.int64
