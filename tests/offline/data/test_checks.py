"""Every fault of the data is named with its file, row, column and remedy, whichever way it comes in."""

from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.config import Prepare
from offline.data import tables
from offline.errors import DataError
from tests.offline.data.test_tables import csv, mapped

GOOD = "1,a,2024-01-01\n2,b,2024-01-02\n"


def fault(config: Prepare, folder: Path) -> str:
    with pytest.raises(DataError) as caught:
        tables.prepare(config, folder)
    return str(caught.value)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (GOOD + "1,a,2024-01-01\n", "row 3, columns 'who', 'what', 'when': 1, a, 2024-01-01 00:00:00+00:00 was there"),
        (GOOD + "1,a,yesterday\n3,a,never\n", "row 3, column 'when': 'yesterday' is no time stamp"),
        (GOOD + "1,a,1704067200000\n", "row 3, column 'when': '1704067200000' is no time stamp between 1970 and 2200"),
        (GOOD + "1,a,\n", "row 3, column 'when': an empty field is no time stamp"),
        (GOOD + "1,a,2099-01-01\n", "row 3, column 'when': '2099-01-01' lies in the future"),
        (GOOD + "1,a,1066-10-14\n", "row 3, column 'when': '1066-10-14' lies before 1990"),
        (GOOD + "1,a,17\n", "row 3, column 'when': '17' lies before 1990"),
        (GOOD + ",a,2024-01-01\n", "row 3, column 'who': an empty field is no id"),
        (GOOD + "1,,2024-01-01\n", "row 3, column 'what': an empty field is no id"),
        ("1,a,2024-01-01\n1,b,2024-01-02\n", "column 'who' knows one user only (1)"),
        ("1,a,2024-01-01\n2,a,2024-01-02\n", "column 'what' knows one item only (a)"),
        ("", "has no rows"),
        (GOOD + "1,a,2024-01-01,x\n", "CSV Error on Line: 4"),
    ],
)
def test_faulty_rows(tmp_path: Path, rows: str, message: str) -> None:
    path = csv(tmp_path, "who,what,when\n" + rows)
    said = fault(mapped(path), tmp_path)
    assert said.startswith(f"{path}: ")
    assert message in said
    assert any(word in said for word in ("; mend", "; write", "; fill", "; remove", "; give", "at least two"))


def test_several_faulty_rows_are_counted(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n" + GOOD + "1,a,x\n1,b,y\n")
    assert "(2 such rows)" in fault(mapped(path), tmp_path)


def test_files_that_are_missing_empty_or_of_other_columns(tmp_path: Path) -> None:
    assert fault(mapped(tmp_path / "no.csv"), tmp_path) == f"{tmp_path / 'no.csv'}: no such file"
    assert fault(mapped(csv(tmp_path, "")), tmp_path).endswith("own.csv: the file is empty")
    path = csv(tmp_path, "who,thing,when\n" + GOOD)
    expected = f"{path}: no column 'what'; it has 'who', 'thing', 'when': say which one it is with --item-column"
    assert fault(mapped(path), tmp_path) == expected
    assert "names a column twice" in fault(mapped(csv(tmp_path, "who,who,when\n" + GOOD)), tmp_path)


def test_wrong_types(tmp_path: Path) -> None:
    path = tmp_path / "own.parquet"
    moments = pa.array([datetime(2024, 1, 1, tzinfo=UTC)] * 2, pa.timestamp("us", "UTC"))
    pq.write_table(pa.table({"who": [1.5, 2.5], "what": ["a", "b"], "when": moments}), path)
    assert "column 'who' is of type float64; ids must be text or whole numbers" in fault(mapped(path), tmp_path)
    pq.write_table(pa.table({"who": [1, 2], "what": ["a", "b"], "when": [True, False]}), path)
    assert "column 'when' is of type boolean; time stamps must be" in fault(mapped(path), tmp_path)


def test_unknown_ids_and_repeated_ids(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n" + GOOD)
    items = csv(tmp_path, "what\na\n", "items.csv")
    expected = f"{path}: row 2, column 'what': 'b' is not in {items}; add it to {items}, or leave such rows out with"
    assert fault(mapped(path, items=items), tmp_path).startswith(expected)
    users = csv(tmp_path, "who\n2\n", "users.csv")
    assert f"row 1, column 'who': '1' is not in {users}" in fault(mapped(path, users=users), tmp_path)
    twice = csv(tmp_path, "what\na\nb\na\n", "items.csv")
    assert fault(mapped(path, items=twice), tmp_path).startswith(f"{twice}: row 3, column 'what': a was there before")
