import gzip
from pathlib import Path

import pytest

from benchmarks.data import beauty


def test_reads_a_user_a_line(tmp_path: Path) -> None:
    path = tmp_path / beauty.FILE
    path.parent.mkdir()
    with gzip.open(path, "wt") as file:
        file.write("1 1 2 3 4\n2 7 1 2\n")
    task = beauty.load(tmp_path)
    assert task.num_items == 7
    assert task.learned.items.tolist() == [0, 1, 6]
    assert task.test.items.tolist() == [3, 1]
    assert not task.repeats


def test_says_so_where_it_is_not(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        beauty.load(tmp_path)
