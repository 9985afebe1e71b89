"""What the networks are fed with, as the arrays that a server gathers from: `features.safetensors` of a bundle.

items/ids            int32[J], what the networks call each item, 0 for those that training never saw taken
items/embedding      float32[J, D], the item tower's vectors
items/words_0, …     items' features (`offline.export.onnx.feature_arrays`)
users/words_0, …     users' features
users/history        int32[U, N], each user's latest items, the latest first, -1 past the end
"""

from __future__ import annotations

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray

from offline.batches import item_ids
from offline.data import timelines as tl
from offline.data.dataset import Dataset
from offline.export.onnx import feature_arrays
from offline.training.features import Features


def arrays(
    dataset: Dataset, features: Features, vectors: NDArray[np.float32], length: int
) -> dict[str, NDArray[np.generic]]:
    """All of them by name.

    Args:
        dataset: J items and U users.
        features: of all of these.
        vectors: float32[J, D], the item tower's.
        length: N.
    """
    everyone = np.arange(len(dataset.users), dtype=np.int32)
    return {
        "items/ids": item_ids(dataset.timelines, len(dataset.items)),
        "items/embedding": vectors,
        **{f"items/{name}": array for name, array in feature_arrays(features.items).items()},
        **{f"users/{name}": array for name, array in feature_arrays(features.users).items()},
        "users/history": tl.latest(dataset.timelines, everyone, length),
    }


def pack(found: dict[str, NDArray[np.generic]]) -> bytes:
    """The arrays as the file's content."""
    return bytes(safetensors.numpy.save({name: np.ascontiguousarray(array) for name, array in found.items()}))
