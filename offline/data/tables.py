"""Prepared tables: a user's files under one set of names, checked, cut in time and written as Parquet.

    interactions.parquet   user_id, item_id, timestamp (UTC), by time
    items.parquet          item_id and the catalogue's other columns, by id
    users.parquet          user_id and the users' other columns, by id
    split.json             where time is cut

Everything is one Ibis expression a table, on DuckDB here.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
from ibis.backends.duckdb import Backend

from offline.config import Prepare
from offline.data import checks, online_retail
from offline.data.split import Split, cut
from offline.errors import DataError

INTERACTIONS, ITEMS, USERS, SPLIT = "interactions.parquet", "items.parquet", "users.parquet", "split.json"
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_YEAR_2200 = 7_258_118_400_000_000  # µs; larger numbers do not fit a time stamp


def with_defaults(config: Prepare) -> Prepare:
    """Name the built-in data set's files and test period where the user names no files."""
    if config.interactions is not None:
        return config
    return config.model_copy(
        update={
            "interactions": online_retail.events(),
            "items": online_retail.items(),
            "users": online_retail.users(),
            "user_column": "user_id",
            "item_column": "item_id",
            "timestamp_column": "timestamp",
            "test_start": config.test_start or online_retail.TEST_START,
        }
    )


def prepare(config: Prepare, folder: Path, say: Callable[[str], None] = print) -> Split:
    """Read, check and write the tables to `folder`.

    Args:
        config: files and columns; see `with_defaults`.
        folder: where to write; exists.
        say: told what was left out, in a sentence.

    Raises:
        DataError: see `checks`.
    """
    config = with_defaults(config)
    assert config.interactions is not None  # noqa: S101
    con = ibis.duckdb.connect()
    con.raw_sql("SET TimeZone = 'UTC'")
    interactions = _interactions(con, config, config.interactions, say)
    items = _entities(con, config.items, "item_id", config.item_column, "item-column")
    users = _entities(con, config.users, "user_id", config.user_column, "user-column")
    for path, key, column, table in (
        (config.items, "item_id", config.item_column, items),
        (config.users, "user_id", config.user_column, users),
    ):
        if table is None or path is None:
            continue
        if config.drop_unknown:
            kept = interactions.semi_join(table, key)
            _tell_dropped(interactions, kept, f"with a {key} that is not in {path}", say)
            interactions = kept
        else:
            checks.known(interactions, config.interactions, key, column, table, path)
    checks.several(interactions, config.interactions, "user_id", config.user_column, "user")
    checks.several(interactions, config.interactions, "item_id", config.item_column, "item")

    span = interactions.aggregate(first=interactions.timestamp.min(), last=interactions.timestamp.max()).execute()
    split = cut(
        span["first"][0].to_pydatetime(),
        span["last"][0].to_pydatetime(),
        config.test_start,
        config.test_share,
        config.validation_share,
    )
    # Without a catalogue, one is learned from the interactions: from those the trainer may see.
    seen = interactions.filter(interactions.timestamp < ibis.literal(split.test_start))
    items = items if items is not None else seen.select("item_id").distinct()
    users = users if users is not None else seen.select("user_id").distinct()
    ordered = interactions.select("user_id", "item_id", "timestamp").order_by(["timestamp", "user_id", "item_id"])
    ordered.to_parquet(folder / INTERACTIONS)
    items.order_by("item_id").to_parquet(folder / ITEMS)
    users.order_by("user_id").to_parquet(folder / USERS)
    (folder / SPLIT).write_text(split.model_dump_json())
    return split


def _interactions(con: Backend, config: Prepare, path: Path, say: Callable[[str], None]) -> ir.Table:
    raw = _read(con, path, config.item_column, text=True)
    for column, option in (
        (config.user_column, "user-column"),
        (config.item_column, "item-column"),
        (config.timestamp_column, "timestamp-column"),
    ):
        checks.columns(raw, path, [column], option)
    checks.rows(raw, path)
    checks.identifier(raw, path, config.user_column)
    checks.identifier(raw, path, config.item_column)
    # Kept as a table, so that every check reads the file's rows in the file's order.
    stamped = raw.mutate(moment_=_moment(raw, path, config.timestamp_column, config.timestamp_unit))
    checks.moments(stamped, path, config.timestamp_column, "moment_", ibis.literal(datetime.now(UTC)))
    table = con.create_table(
        "interactions",
        stamped.select(
            checks.ROW,
            user_id=stamped[config.user_column].cast("string"),
            item_id=stamped[config.item_column].cast("string"),
            timestamp=stamped.moment_,
        ),
        temp=True,
    )
    keys = ["user_id", "item_id", "timestamp"]
    if config.drop_duplicates:
        kept = table.anti_join(checks.repeated(table, keys), checks.ROW)
        _tell_dropped(table, kept, "that repeat an earlier row", say)
        return kept
    named = [config.user_column, config.item_column, config.timestamp_column]
    checks.unique(table, path, keys, named, "remove the copies, or leave them out with --drop-duplicates")
    return table


def _entities(con: Backend, path: Path | None, key: str, column: str, option: str) -> ir.Table | None:
    """A table of items or users under the key's name, or None without a file."""
    if path is None:
        return None
    raw = _read(con, path, column, text=False)
    checks.columns(raw, path, [column], option)
    checks.rows(raw, path)
    checks.identifier(raw, path, column)
    if key != column and key in raw.columns:
        raise DataError(f"{path}: column {key!r} stands in the way of {column!r}; rename or remove it")
    table = raw.rename({key: column}) if key != column else raw
    table = table.mutate(**{key: table[key].cast("string")})
    checks.unique(table, path, [key], [column], "keep one row for each")
    return table.drop(checks.ROW).relocate(key)


def _read(con: Backend, path: Path, id_column: str, *, text: bool) -> ir.Table:
    """A file as a table with row numbers; `text` reads a CSV's columns as they are written."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    try:
        if path.suffix == ".parquet":
            table = con.read_parquet(path)
        elif text:
            table = con.read_csv(path, header=True, all_varchar=True)
        else:
            header = con.read_csv(path, header=True, all_varchar=True).columns
            types = {id_column: "VARCHAR"} if id_column in header else {}
            table = con.read_csv(path, header=True, types=types)
    except duckdb.Error as error:
        reason = str(error).splitlines()[0]
        raise DataError(f"{path}: not a readable CSV or Parquet file: {reason}") from error
    return table.mutate(**{checks.ROW: ibis.row_number() + 1})


def _moment(table: ir.Table, path: Path, column: str, unit: str) -> ir.Value:
    """A column as UTC time stamps, null where it cannot be read; times without a zone are UTC."""
    value, kind = table[column], table[column].type()
    if kind.is_timestamp() or kind.is_date():
        return value.cast("timestamp('UTC')")
    if not (kind.is_string() or kind.is_numeric()):
        raise DataError(f"{path}: column {column!r} is of type {kind}; time stamps must be times, numbers or text")
    micros = (value.try_cast("float64") * _UNITS[unit]).round()
    micros = ibis.ifelse(micros.between(0, _YEAR_2200), micros, ibis.null())
    number = micros.cast("int64").as_timestamp("us").cast("timestamp('UTC')")
    return ibis.coalesce(value.try_cast("timestamp('UTC')"), number) if kind.is_string() else number


def _tell_dropped(before: ir.Table, after: ir.Table, which: str, say: Callable[[str], None]) -> None:
    dropped = before.count().execute() - after.count().execute()
    if dropped:
        say(f"Left out {dropped:,} rows {which}.")
