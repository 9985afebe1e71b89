import gzip
from pathlib import Path

import numpy as np
import pytest

from benchmarks.data import frappe
from benchmarks.data.clicks import AbsentDataError

HEADER = "label,user,item,daytime\n"


def test_words_are_numbered_from_0_in_each_field(tmp_path: Path) -> None:
    folder = tmp_path / "frappe" / "frappe_x1"
    folder.mkdir(parents=True)
    with gzip.open(folder / "train.csv.gz", "wt") as file:
        file.write(HEADER + "1,0,10,21\n0,1,12,20\n")
    (folder / "valid.csv").write_text(HEADER + "1,2,11,20\n")
    (folder / "test.csv").write_text(HEADER + "0,0,10,22\n")
    clicks = frappe.read(tmp_path)
    assert (clicks.sizes, clicks.columns) == ((3, 3, 3), (1, 1, 1))
    assert clicks.train.ids.tolist() == [[0, 0, 1], [1, 2, 0]]
    assert clicks.train.labels.tolist() == [1, 0]
    assert clicks.validation.ids.tolist() == [[2, 1, 0]]
    assert clicks.test.ids.tolist() == [[0, 0, 2]]
    assert clicks.test.numbers.shape == (1, 0)
    assert clicks.test.labels.dtype == np.float32


def test_says_how_to_obtain_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(AbsentDataError, match="huggingface"):
        frappe.read(tmp_path)
