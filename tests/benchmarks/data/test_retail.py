from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import retail
from offline.config import Train


@pytest.mark.filterwarnings("ignore:fetch_arrow_table:DeprecationWarning")
def test_is_cut_in_time(tmp_path: Path) -> None:
    task = retail.load(tmp_path, Train())
    assert task.num_items == len(task.features.items.numbers) == 3145
    for question in (task.validation, task.test):
        assert np.isin(question.users, question.history.users).all()
        pairs = np.stack([question.users, question.items], axis=1)
        assert len(np.unique(pairs, axis=0)) == len(pairs) > 1000
    assert task.learned.times.max() < task.test.history.times.max()
    assert len(task.learned.items) == len(task.validation.history.items) < len(task.test.history.items)
