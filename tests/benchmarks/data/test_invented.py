import numpy as np

from benchmarks.data import invented
from offline.config import Synthetic


def test_every_user_gives_all_steps_but_two() -> None:
    settings = Synthetic(users=40, clusters=3, items_per_cluster=4, interests=2, steps=10, item_power=2.0)
    task = invented.load(settings)
    assert task.num_items == 12
    assert len(task.learned.items) == 40 * 8
    counts = np.bincount(task.learned.items, minlength=12).reshape(3, 4)
    assert (counts[:, 0] > counts[:, 3]).all()  # ranks stay ranks
    assert task.repeats
