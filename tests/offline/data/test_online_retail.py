import subprocess
import sys

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.data import online_retail


def test_events_are_unique_sorted_and_in_utc() -> None:
    events = pq.read_table(online_retail.events())
    assert events.column_names == ["user_id", "item_id", "timestamp", "quantity", "price"]
    assert events.schema.field("timestamp").type == pa.timestamp("ms", "UTC")
    keys = events.select(["timestamp", "user_id", "item_id"])
    assert keys.group_by(keys.column_names).aggregate([]).num_rows == len(events) == 384_262
    assert keys.equals(keys.sort_by([(name, "ascending") for name in keys.column_names]))
    assert min(pc.min(events["quantity"]).as_py(), pc.min(events["price"]).as_py()) > 0


def test_every_event_has_its_user_and_item() -> None:
    events = pq.read_table(online_retail.events())
    for column, path in (("user_id", online_retail.users()), ("item_id", online_retail.items())):
        ids = pq.read_table(path)[column].to_pylist()
        assert len(ids) == len(set(ids))
        assert set(ids) == set(events[column].to_pylist())


def test_prices_do_not_know_the_test_period() -> None:
    before = pq.read_table(online_retail.events(), filters=[("timestamp", "<", online_retail.TEST_START)])
    seen = before.group_by("item_id").aggregate([("price", "min"), ("price", "max")])
    items = pq.read_table(online_retail.items()).join(seen, "item_id", join_type="inner")
    assert pc.all(pc.greater_equal(items["median_price"], items["price_min"])).as_py()
    assert pc.all(pc.less_equal(items["median_price"], items["price_max"])).as_py()


def test_paths_need_neither_jax_nor_ibis() -> None:
    code = "import sys; from offline.data import online_retail as data; data.events(); print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"jax", "ibis", "flax", "faiss"} & set(loaded)
