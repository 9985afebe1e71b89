"""Item-kNN (Sarwar et al. 2001): items like those that the user took, by the cosine of who took them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from offline.data.timelines import Timelines

_CHUNK, _CELLS = 1024, 1 << 24


class ItemKnn:
    """Neighbourhoods learned from timelines.

    An item counts among its own neighbours, with similarity 1: people take the same thing again.

    Args:
        timelines: the interactions.
        num_items: J.
        neighbours: how many an item keeps, itself included.
    """

    def __init__(self, timelines: Timelines, num_items: int, neighbours: int = 200) -> None:
        shape = (len(timelines.starts) - 1, num_items)
        ones = np.ones(len(timelines.items), dtype=np.float32)
        taken = sparse.csr_array((ones, (timelines.users, timelines.items)), shape=shape)
        taken.data[:] = 1  # an item taken several times was summed up
        length = np.sqrt(np.maximum(np.asarray(taken.sum(axis=0)).ravel(), 1))
        columns = (taken @ sparse.dia_array((1 / length[None], [0]), shape=(num_items, num_items))).tocsr()
        transposed = columns.T.tocsr()
        rows = []
        size = max(1, min(_CHUNK, _CELLS // num_items))
        for start in range(0, num_items, size):
            similarity = (transposed[start : start + size] @ columns).toarray()
            kept = min(neighbours, num_items)
            threshold = np.partition(similarity, -kept, axis=1)[:, -kept, None]
            rows.append(sparse.csr_array(np.where(similarity >= threshold, similarity, 0)))
        self.taken = taken
        self.similarity = sparse.vstack(rows).tocsr()

    def scores(self, users: NDArray[np.int32]) -> NDArray[np.float32]:
        """float32[n, J] for users int32[n]: similarities to each of the user's items, summed."""
        return np.asarray((self.taken[users] @ self.similarity).toarray(), dtype=np.float32)
