"""What the ranker is told of all items and users: what the towers' step left for the bundle."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from offline.batches import UNKNOWN
from offline.data.timelines import PAD
from offline.features.fields import Fields
from offline.ranker.ranker import Items
from offline.vectors import take


class Known(NamedTuple):
    """All of J items and U users.

    Attributes:
        ids: int32[J], as the item tower knows them.
        vectors: float32[J + 1, D], the item tower's; the last row, which PAD finds, is 0.
        items, users: their fields.
    """

    ids: NDArray[np.int32]
    vectors: NDArray[np.float32]
    items: Fields
    users: Fields

    def some(self, numbers: NDArray[np.int32]) -> Items:
        """Items by their numbers, int32[B, n]; PAD for none."""
        ids: Any = np.where(numbers == PAD, UNKNOWN, self.ids[numbers]).astype(np.int32)
        vectors: Any = self.vectors[numbers]
        return Items(ids, vectors)

    def item_fields(self, numbers: NDArray[np.int32]) -> Fields:
        """Fields of items by their numbers, int32[B, n], as B · n rows; what PAD gets means nothing."""
        found: Fields = take(self.items, numbers.ravel())
        return found

    def user_fields(self, users: NDArray[np.int32]) -> Fields:
        """Fields of users, int32[B]."""
        found: Fields = take(self.users, users)
        return found


def read(content: bytes) -> Known:
    """From a `features.safetensors` (`offline.export.features`)."""
    arrays = safetensors.numpy.load(content)
    vectors = arrays["items/embedding"]
    return Known(
        arrays["items/ids"],
        np.concatenate([vectors, np.zeros((1, vectors.shape[1]), np.float32)]),
        _fields(arrays, "items", len(vectors)),
        _fields(arrays, "users", len(arrays["users/history"])),
    )


def _fields(arrays: dict[str, Any], kind: str, rows: int) -> Fields:
    several = (
        [arrays[name] for name in sorted(arrays) if name.startswith(f"{kind}/{what}_")] for what in ("words", "vectors")
    )
    words, vectors = map(tuple, several)
    numbers = arrays.get(f"{kind}/numbers", np.zeros((rows, 0), np.float32))
    return Fields(words, numbers, vectors)
