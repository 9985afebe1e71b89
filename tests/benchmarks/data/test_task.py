import numpy as np

from benchmarks.data.task import leave_one_out


def test_the_last_item_is_the_test_and_the_one_before_it_the_validation() -> None:
    sequences = [np.array(items, dtype=np.int32) for items in ([3, 0, 2, 1], [0, 1, 2])]
    task = leave_one_out(sequences, 5, repeats=False)
    assert task.learned.items.tolist() == [3, 0, 0]
    assert task.learned.users.tolist() == [0, 0, 1]
    assert (task.validation.users.tolist(), task.validation.items.tolist()) == ([0, 1], [2, 1])
    assert (task.test.users.tolist(), task.test.items.tolist()) == ([0, 1], [1, 2])
    assert task.validation.history.items.tolist() == task.learned.items.tolist()
    assert task.test.history.items.tolist() == [3, 0, 2, 0, 1]
    assert len(task.features.items.numbers) == task.num_items == 5
    assert len(task.features.users.numbers) == 2
