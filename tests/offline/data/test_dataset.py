from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.config import Prepare
from offline.data import dataset, tables
from offline.data.dataset import Dataset, microseconds
from offline.errors import DataError
from tests.offline.conftest import NUM_ITEMS, NUM_USERS, START, TEST_START, interactions


def test_holds_the_training_period_alone(data: Dataset) -> None:
    assert data.timelines.times.max() < microseconds(TEST_START) == microseconds(data.split.test_start)
    before = sum(moment < TEST_START for moment in interactions()["timestamp"].to_pylist())
    assert len(data.timelines.times) == before
    assert len(data.users) == NUM_USERS
    assert len(data.items) == NUM_ITEMS


def test_numbers_are_rows_of_the_tables(data: Dataset) -> None:
    users, items = data.users["user_id"].to_pylist(), data.items["item_id"].to_pylist()
    found = {
        (users[user], items[item], time)
        for user, item, time in zip(*(array.tolist() for array in data.timelines[:3]), strict=True)
    }
    expected = {
        (row["user_id"], row["item_id"], microseconds(row["timestamp"]))
        for row in interactions().to_pylist()
        if row["timestamp"] < TEST_START
    }
    assert found == expected


def test_the_test_period_is_the_rest(prepared: Path, data: Dataset) -> None:
    test = dataset.test_period(prepared, data)
    assert test.times.min() >= microseconds(TEST_START)
    assert len(test.times) + len(data.timelines.times) == len(interactions())


def test_users_and_items_of_the_test_period_alone_are_unknown(tmp_path: Path) -> None:
    late = pa.table(
        {
            "user_id": ["new", "u00"],
            "item_id": ["i00", "unheard"],
            "timestamp": pa.array([TEST_START + timedelta(days=1)] * 2, pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(pa.concat_tables([interactions(), late]), tmp_path / "own.parquet")
    tables.prepare(Prepare(interactions=tmp_path / "own.parquet", test_start=TEST_START), tmp_path)
    data = dataset.load(tmp_path)
    assert "new" not in data.users["user_id"].to_pylist()
    assert "unheard" not in data.items["item_id"].to_pylist()
    assert len(dataset.test_period(tmp_path, data).times) + len(data.timelines.times) < len(interactions())


def test_one_user_before_the_test_period_is_too_few(tmp_path: Path) -> None:
    rows = interactions().slice(0, 1)
    rows = pa.concat_tables(
        [rows, interactions().filter(pa.compute.greater_equal(interactions()["timestamp"], TEST_START))]
    )
    pq.write_table(rows, tmp_path / "own.parquet")
    tables.prepare(Prepare(interactions=tmp_path / "own.parquet", test_start=TEST_START), tmp_path)
    with pytest.raises(DataError, match=r"1 user\(s\) have interactions before .*--test-start"):
        dataset.load(tmp_path)


def test_nobody_to_validate_on_is_refused(tmp_path: Path) -> None:
    times = [START, START + timedelta(days=70), START + timedelta(days=90)]
    rows = pa.table(
        {
            "user_id": ["a", "b", "a"],
            "item_id": ["x", "y", "x"],
            "timestamp": pa.array(times, pa.timestamp("us", "UTC")),
        }
    )
    pq.write_table(rows, tmp_path / "own.parquet")
    tables.prepare(Prepare(interactions=tmp_path / "own.parquet", test_start=TEST_START), tmp_path)
    with pytest.raises(DataError, match="validation_share"):
        dataset.load(tmp_path)


def test_microseconds_are_exact() -> None:
    assert microseconds(START + timedelta(microseconds=1)) - microseconds(START) == 1
    assert np.int64(microseconds(START)) == 1_704_067_200_000_000
