import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from offline.config import Prepare, Synthetic
from offline.data import online_retail, synthetic, tables
from offline.errors import DataError
from tests.offline.conftest import interactions


def csv(folder: Path, text: str, name: str = "own.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def mapped(path: Path, **options: object) -> Prepare:
    columns = {"user_column": "who", "item_column": "what", "timestamp_column": "when"}
    return Prepare.model_validate({"interactions": path, **columns, **options})


def read(folder: Path, name: str) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = pq.read_table(folder / name).to_pylist()
    return rows


def test_csv_and_parquet_give_the_same_tables(tmp_path: Path) -> None:
    table = interactions()
    pq.write_table(table, tmp_path / "own.parquet")
    lines = [f"{row['user_id']},{row['item_id']},{row['timestamp'].isoformat()}" for row in table.to_pylist()]
    csv(tmp_path, "\n".join(["user_id,item_id,timestamp", *lines]))
    for name in ("own.parquet", "own.csv"):
        (tmp_path / f"from {name}").mkdir()
        tables.prepare(Prepare(interactions=tmp_path / name), tmp_path / f"from {name}")
    for name in (tables.INTERACTIONS, tables.ITEMS, tables.USERS):
        assert read(tmp_path / "from own.csv", name) == read(tmp_path / "from own.parquet", name)


def test_columns_are_renamed_ids_kept_and_rows_sorted(tmp_path: Path) -> None:
    path = csv(
        tmp_path, 'what;who;when\n007;"ä/ö; x";2024-03-01\na;2;2024-01-01T00:00:00+02:00\na;2;2024-02-01 12:00\n'
    )
    tables.prepare(mapped(path), tmp_path)
    assert read(tmp_path, tables.INTERACTIONS) == [
        {"user_id": "2", "item_id": "a", "timestamp": datetime(2023, 12, 31, 22, tzinfo=UTC)},
        {"user_id": "2", "item_id": "a", "timestamp": datetime(2024, 2, 1, 12, tzinfo=UTC)},
        {"user_id": "ä/ö; x", "item_id": "007", "timestamp": datetime(2024, 3, 1, tzinfo=UTC)},
    ]


@pytest.mark.parametrize(
    ("unit", "number"), [("s", "1704067200.5"), ("ms", "1704067200500"), ("us", "1704067200500000")]
)
def test_numbers_are_times_in_their_unit(tmp_path: Path, unit: str, number: str) -> None:
    path = csv(tmp_path, f"who,what,when\n1,a,{number}\n2,b,2024-01-02\n")
    tables.prepare(mapped(path, timestamp_unit=unit), tmp_path)
    assert read(tmp_path, tables.INTERACTIONS)[0]["timestamp"] == datetime(2024, 1, 1, 0, 0, 0, 500_000, tzinfo=UTC)


def test_parquet_times_may_be_integers_dates_or_without_zone(tmp_path: Path) -> None:
    moment = datetime(2024, 1, 1, tzinfo=UTC)
    for number, times in enumerate(
        (
            pa.array([int(moment.timestamp())] * 2),
            pa.array([moment.date()] * 2),
            pa.array([moment.replace(tzinfo=None)] * 2, pa.timestamp("ns")),
        )
    ):
        path = tmp_path / f"{number}.parquet"
        pq.write_table(pa.table({"who": [1, 2], "what": ["a", "b"], "when": times}), path)
        with pytest.raises(DataError, match="nothing is left to train on"):  # both at one moment: read, then refused
            tables.prepare(mapped(path, test_start=moment), tmp_path)


def test_features_keep_their_kind(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n1,a,2024-01-01\n2,b,2024-01-02\n")
    items = csv(tmp_path, "what,price,year,code,words\nb,2e3,,008,x y\na,1.5,2011,007,\n", "items.csv")
    users = csv(tmp_path, "who,country\n2,DE\n1,FR\n3,FR\n", "users.csv")
    tables.prepare(mapped(path, items=items, users=users), tmp_path)
    assert read(tmp_path, tables.ITEMS) == [
        {"item_id": "a", "price": 1.5, "year": 2011, "code": "007", "words": None},
        {"item_id": "b", "price": 2000.0, "year": None, "code": "008", "words": "x y"},
    ]
    assert [row["user_id"] for row in read(tmp_path, tables.USERS)] == ["1", "2", "3"]


def test_without_a_catalogue_it_is_what_the_trainer_may_see(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n1,a,2024-01-01\n2,b,2024-01-02\n2,late,2024-06-01\nlater,a,2024-06-01\n")
    split = tables.prepare(mapped(path, test_start="2024-06-01"), tmp_path)
    assert split.test_start == datetime(2024, 6, 1, tzinfo=UTC)
    assert json.loads((tmp_path / tables.SPLIT).read_text())["test_start"].startswith("2024-06-01")
    assert read(tmp_path, tables.ITEMS) == [{"item_id": "a"}, {"item_id": "b"}]
    assert read(tmp_path, tables.USERS) == [{"user_id": "1"}, {"user_id": "2"}]
    assert len(read(tmp_path, tables.INTERACTIONS)) == 4


def test_drops_duplicates_and_unknown_when_told_and_says_so(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n1,a,2024-01-01\n2,b,2024-01-02\n1,a,2024-01-01\n1,z,2024-01-01\n")
    items = csv(tmp_path, "what\na\nb\n", "items.csv")
    said: list[str] = []
    tables.prepare(mapped(path, items=items, drop_duplicates=True, drop_unknown=True), tmp_path, said.append)
    assert len(read(tmp_path, tables.INTERACTIONS)) == 2
    assert said == [
        "Left out 1 row that had been there before.",
        f"Left out 1 row whose item_id is not in {items}.",
    ]


def test_a_name_in_the_way_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, "who,what,when\n1,a,2024-01-01\n2,b,2024-01-02\n")
    items = csv(tmp_path, "what,item_id\na,1\nb,2\n", "items.csv")
    with pytest.raises(DataError, match="'item_id' stands in the way of 'what'"):
        tables.prepare(mapped(path, items=items), tmp_path)


def test_without_files_the_built_in_data_is_taken() -> None:
    config = tables.with_defaults(Prepare())
    assert (config.interactions, config.items) == (online_retail.events(), online_retail.items())
    assert config.test_start == online_retail.TEST_START
    later = datetime(2011, 11, 1, tzinfo=UTC)
    assert tables.with_defaults(Prepare(test_start=later)).test_start == later


def test_the_synthetic_data_set_needs_no_files_and_keeps_its_last_days_for_the_test(tmp_path: Path) -> None:
    config = Prepare(data_set="synthetic", synthetic=Synthetic(users=40, steps=20), user_column="whatever")
    split = tables.prepare(config, tmp_path)
    rows = pq.read_table(tmp_path / tables.INTERACTIONS)
    assert len(rows) == 40 * 20
    assert split.test_start == synthetic.START + timedelta(days=19) * 0.8
    assert len(pq.read_table(tmp_path / tables.ITEMS)) <= 50
