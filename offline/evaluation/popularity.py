"""Popularity: everybody gets what most interactions were about."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.data.timelines import Timelines, popularity


def scores(timelines: Timelines, users: NDArray[np.int32], num_items: int, since: int = 0) -> NDArray[np.float32]:
    """float32[n, J] for users int32[n]: each item's interactions from `since` (µs since 1970) on, the same for all."""
    recent = timelines.times >= since
    counts = popularity(timelines._replace(items=timelines.items[recent]), num_items).astype(np.float32)
    return np.broadcast_to(counts, (len(users), num_items))
