"""The data set that the trainer sees: prepared tables as arrays, cut off where the test period starts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline.data import tables
from offline.data.split import Split
from offline.data.timelines import Timelines, sort
from offline.errors import DataError


@dataclass(frozen=True)
class Dataset:
    """Everything before the test period.

    Attributes:
        items: J rows, the catalogue by id; a row's place is the item's number.
        users: U rows, the users with interactions before the test period, by id, with what is known of them.
        timelines: their interactions before the test period.
        split: where time is cut.
    """

    items: pa.Table
    users: pa.Table
    timelines: Timelines
    split: Split


def load(folder: Path) -> Dataset:
    """Read what `prepare` wrote to `folder`; rows of the test period are not even read.

    Raises:
        DataError: fewer than two users have interactions before the test period, or none has any both before the
            validation period and in it.
    """
    split = Split.model_validate_json((folder / tables.SPLIT).read_text())
    rows = pq.read_table(folder / tables.INTERACTIONS, filters=[("timestamp", "<", split.test_start)])
    items = pq.read_table(folder / tables.ITEMS)
    ids = pc.unique(rows["user_id"])
    if len(ids) < 2:
        raise DataError(
            f"{len(ids)} user(s) have interactions before {split.test_start:%Y-%m-%d %H:%M:%S}, where the test period "
            "starts; at least two are needed: pass a later --test-start"
        )
    everyone = pq.read_table(folder / tables.USERS)
    users = everyone.filter(pc.is_in(everyone["user_id"], ids))
    timelines = sort(*numbered(rows, users, items), len(users))
    in_validation = timelines.times >= microseconds(split.validation_start)
    if not np.isin(timelines.users[in_validation], timelines.users[~in_validation]).any():
        raise DataError(
            f"nobody has interactions both before {split.validation_start:%Y-%m-%d %H:%M:%S} and from then to the "
            "test period, so training cannot be validated: set a larger prepare.validation_share or give more data"
        )
    return Dataset(items, users, timelines, split)


def test_period(folder: Path, dataset: Dataset) -> Timelines:
    """Known users' interactions with known items in the test period, for evaluation alone."""
    rows = pq.read_table(folder / tables.INTERACTIONS, filters=[("timestamp", ">=", dataset.split.test_start)])
    known = pc.and_(
        pc.is_in(rows["user_id"], dataset.users["user_id"].combine_chunks()),
        pc.is_in(rows["item_id"], dataset.items["item_id"].combine_chunks()),
    )
    return sort(*numbered(rows.filter(known), dataset.users, dataset.items), len(dataset.users))


def microseconds(moment: datetime) -> int:
    """µs since 1970, as timelines count."""
    return int(pa.scalar(moment, pa.timestamp("us", "UTC")).value)


def numbered(
    rows: pa.Table, users: pa.Table, items: pa.Table
) -> tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]:
    """Rows of interactions as user rows int32[N], item numbers int32[N] and times int64[N] in µs."""
    return (
        pc.index_in(rows["user_id"], users["user_id"].combine_chunks()).to_numpy().astype(np.int32),
        pc.index_in(rows["item_id"], items["item_id"].combine_chunks()).to_numpy().astype(np.int32),
        rows["timestamp"].cast(pa.timestamp("us", "UTC")).cast(pa.int64()).to_numpy(),
    )
