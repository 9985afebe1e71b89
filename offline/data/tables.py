"""Prepared tables: a user's files under one set of names, checked, cut in time and written as Parquet.

    interactions.parquet   user_id, item_id, timestamp (UTC), by time
    items.parquet          item_id and the catalogue's other columns, by id
    users.parquet          user_id and the users' other columns, by id
    split.json             where time is cut

Everything is one Ibis expression a table, on DuckDB here.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb
import ibis
import ibis.expr.types as ir
import pyarrow.parquet as pq
from ibis.backends.duckdb import Backend

from offline.config import Prepare
from offline.data import checks, online_retail, synthetic
from offline.data.split import Split, cut
from offline.errors import DataError

INTERACTIONS, ITEMS, USERS, SPLIT = "interactions.parquet", "items.parquet", "users.parquet", "split.json"
SYNTHETIC = "synthetic.parquet"
_DELIMITERS = (",", ";", "\t", "|")
_NUMBERS = {"int64": r"^(0|-?[1-9]\d{0,17})$", "float64": r"^-?(0|[1-9]\d*)(\.\d+)?([eE][+-]?\d+)?$"}
_UNITS = {"s": 1_000_000, "ms": 1_000, "us": 1}
_YEAR_2200 = 7_258_118_400_000_000  # µs; larger numbers do not fit a time stamp


def with_defaults(config: Prepare) -> Prepare:
    """Name the built-in data set's files and test period where the user names no files; the synthetic one has none."""
    if config.interactions is not None or config.data_set == "synthetic":
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
    try:
        return _prepare(_made(with_defaults(config), folder), folder, say)
    except duckdb.Error as error:  # e.g. a line with too many fields
        lines = [line.strip() for line in str(error).splitlines()]
        path = next((line.removeprefix("file = ") for line in lines if line.startswith("file = ")), "the data")
        raise DataError(f"{path}: {'; '.join(lines[:3])}; mend that line") from error


def _made(config: Prepare, folder: Path) -> Prepare:
    """Write the synthetic data set to `folder` and name its file, if it is that one."""
    if config.interactions is not None:
        return config
    path = folder / SYNTHETIC
    pq.write_table(synthetic.interactions(config.synthetic), path)
    names = {"user_column": "user_id", "item_column": "item_id", "timestamp_column": "timestamp"}
    return config.model_copy(update={"interactions": path, **names})


def _prepare(config: Prepare, folder: Path, say: Callable[[str], None]) -> Split:
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
            _tell_dropped(interactions, kept, f"whose {key} is not in {path}", say)
            interactions = kept
        else:
            checks.known(interactions, config.interactions, key, column, table, path)
    checks.several(interactions, config.interactions, "user_id", config.user_column, "user")
    checks.several(interactions, config.interactions, "item_id", config.item_column, "item")

    span = interactions.aggregate(first=interactions.timestamp.min(), last=interactions.timestamp.max()).to_pyarrow()
    split = cut(
        span["first"][0].as_py(),
        span["last"][0].as_py(),
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
    raw = _read(con, path)
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
    stamped = raw.mutate(_moment=_moment(raw, path, config.timestamp_column, config.timestamp_unit))
    checks.moments(stamped, path, config.timestamp_column, "_moment", ibis.literal(datetime.now(UTC)))
    table = con.create_table(
        "interactions",
        stamped.select(
            checks.ROW,
            user_id=stamped[config.user_column].cast("string"),
            item_id=stamped[config.item_column].cast("string"),
            timestamp=stamped["_moment"],
        ),
        temp=True,
    )
    keys = ["user_id", "item_id", "timestamp"]
    if config.drop_duplicates:
        kept = table.anti_join(checks.repeated(table, keys), checks.ROW)
        _tell_dropped(table, kept, "that had been there before", say)
        return kept
    named = [config.user_column, config.item_column, config.timestamp_column]
    checks.unique(table, path, keys, named, "remove the copies, or leave them out with --drop-duplicates")
    return table


def _entities(con: Backend, path: Path | None, key: str, column: str, option: str) -> ir.Table | None:
    """A table of items or users under the key's name, or None without a file."""
    if path is None:
        return None
    raw = _read(con, path)
    checks.columns(raw, path, [column], option)
    checks.rows(raw, path)
    checks.identifier(raw, path, column)
    if key != column and key in raw.columns:
        raise DataError(f"{path}: column {key!r} stands in the way of {column!r}; rename or remove it")
    table = raw.rename({key: column}) if key != column else raw
    table = table.mutate(**{key: table[key].cast("string")})
    checks.unique(table, path, [key], [column], "keep one row for each")
    return _with_numbers(table.drop(checks.ROW), key).relocate(key)


def _read(con: Backend, path: Path) -> ir.Table:
    """A file as a table with row numbers; a CSV's columns as they are written."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if not path.stat().st_size:
        raise DataError(f"{path}: the file is empty")
    with path.open("rb") as file:
        is_parquet = file.read(4) == b"PAR1"
    table = con.read_parquet(path) if is_parquet else _read_csv(con, path)
    return table.mutate(**{checks.ROW: ibis.row_number() + 1})


def _read_csv(con: Backend, path: Path) -> ir.Table:
    # The header tells the format. Left to guess, DuckDB takes one odd line for a reason to read all others oddly.
    with path.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        header = lines.readline()
    delimiter = max(_DELIMITERS, key=header.count)
    names = next(csv.reader([header], delimiter=delimiter), [])
    if len(set(names)) < len(names):
        raise DataError(f"{path}: the header names a column twice: {', '.join(map(repr, names))}; rename one")
    columns = dict.fromkeys(names, "VARCHAR")
    return con.read_csv(path, header=True, auto_detect=False, delim=delimiter, quote='"', escape='"', columns=columns)


def _with_numbers(table: ir.Table, key: str) -> ir.Table:
    """Turn columns of text, but for the key, that hold numbers only into numbers; codes such as 007 stay text."""
    texts = [name for name in table.columns if name != key and table[name].type().is_string()]
    if not texts:
        return table
    tests = [
        (table[name].isnull() | table[name].re_search(pattern)).all().name(f"{name} {kind}")
        for name in texts
        for kind, pattern in _NUMBERS.items()
    ]
    holds = table.aggregate(tests).to_pyarrow().to_pylist()[0]
    return table.cast({name: next((k for k in _NUMBERS if holds[f"{name} {k}"]), "string") for name in texts})


def _moment(table: ir.Table, path: Path, column: str, unit: str) -> ir.Value:
    """A column as UTC time stamps, null where it cannot be read; times without a zone are UTC."""
    value, kind = table[column], table[column].type()
    if kind.is_timestamp() or kind.is_date():
        return value.cast("timestamp('UTC')")
    if not (kind.is_string() or kind.is_numeric()):
        raise DataError(f"{path}: column {column!r} is of type {kind}; time stamps must be times, numbers or text")
    micros = (value.try_cast("float64") * _UNITS[unit]).round()
    micros = ibis.ifelse(micros.between(0, _YEAR_2200), micros, ibis.null()).cast("int64")
    second = (micros // 1_000_000).as_timestamp("s")
    number = (second + (micros % 1_000_000).as_interval("us")).cast("timestamp('UTC')")
    return ibis.coalesce(value.try_cast("timestamp('UTC')"), number) if kind.is_string() else number


def _tell_dropped(before: ir.Table, after: ir.Table, which: str, say: Callable[[str], None]) -> None:
    dropped = before.count().to_pyarrow().as_py() - after.count().to_pyarrow().as_py()
    if dropped:
        say(f"Left out {dropped:,} row{'s' if dropped > 1 else ''} {which}.")
