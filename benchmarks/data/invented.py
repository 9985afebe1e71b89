"""The synthetic set (`offline.data.synthetic`) at a skew of one's choice, users leaving one out."""

from __future__ import annotations

import numpy as np

from benchmarks.data.task import Task, leave_one_out
from offline.config import Synthetic
from offline.data import synthetic


def load(settings: Synthetic) -> Task:
    """Items that nobody took are in the catalogue all the same."""
    ids = synthetic.interactions(settings)["item_id"].to_pylist()
    items = np.array([_number(name, settings.items_per_cluster) for name in ids], dtype=np.int32)
    sequences = list(items.reshape(settings.users, settings.steps))
    return leave_one_out(sequences, settings.clusters * settings.items_per_cluster, repeats=True)


def _number(name: str, items_per_cluster: int) -> int:
    cluster, rank = name[1:].split("-")
    return int(cluster) * items_per_cluster + int(rank)
