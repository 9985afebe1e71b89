"""Checks of a user's tables; each raises a DataError that names the file, the column, the row and the remedy."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ibis
import ibis.expr.types as ir

from offline.errors import DataError

ROW = "_row"
"""The column of row numbers: 1 is a file's first row after its header."""


def columns(table: ir.Table, path: Path, needed: Sequence[str], option: str) -> None:
    """Every needed column is there."""
    missing = [name for name in needed if name not in table.columns]
    if missing:
        there = ", ".join(repr(name) for name in table.columns if name != ROW)
        raise DataError(f"{path}: no column {missing[0]!r}; it has {there}: say which one it is with --{option}")


def identifier(table: ir.Table, path: Path, column: str) -> None:
    """A column holds ids: text or whole numbers, none of them missing or empty."""
    kind = table[column].type()
    if not (kind.is_string() or kind.is_integer()):
        raise DataError(f"{path}: column {column!r} is of type {kind}; ids must be text or whole numbers")
    text = table[column].cast("string")
    _none(table, text.isnull() | (text == ""), path, column, "is no id", "fill it in or remove the row")


def moments(table: ir.Table, path: Path, column: str, parsed: str, now: ibis.Value) -> None:
    """A column of time stamps was understood, and lies between 1990 and now."""
    unread = "is no time stamp between 1970 and 2200"
    _none(table, table[parsed].isnull(), path, column, unread, "write ISO 8601, or numbers and their --timestamp-unit")
    remedy = "mend or remove the row, or say the right --timestamp-unit"
    early = table[parsed] < ibis.timestamp("1990-01-01 00:00:00", timezone="UTC")
    _none(table, early, path, column, "lies before 1990", remedy)
    _none(table, table[parsed] > now, path, column, "lies in the future", remedy)


def unique(table: ir.Table, path: Path, keys: Sequence[str], named: Sequence[str], remedy: str) -> None:
    """No two rows agree in `keys` (called `named` in the file)."""
    copies = repeated(table, keys)
    for first in _first(copies):
        value = ", ".join(str(first[key]) for key in keys)
        where = f"row {first[ROW]}, column{'s' if named[1:] else ''} {', '.join(map(repr, named))}"
        raise DataError(f"{path}: {where}: {value} was there before{_in_all(copies)}; {remedy}")


def repeated(table: ir.Table, keys: Sequence[str]) -> ir.Table:
    """The rows that agree in `keys` with an earlier row."""
    window = ibis.window(group_by=list(keys), order_by=ROW)
    return table.mutate(copy_=ibis.row_number().over(window)).filter(ibis._.copy_ > 0).drop("copy_")


def known(table: ir.Table, path: Path, key: str, column: str, others: ir.Table, where: Path) -> None:
    """Every id is a row of the other table."""
    lost = table.anti_join(others, key)
    remedy = f"add it to {where}, or leave such rows out with --drop-unknown"
    _none(lost, ibis.literal(True), path, column, f"is not in {where}", remedy, value=key)


def rows(table: ir.Table, path: Path) -> None:
    """The table is not empty."""
    if not table.limit(1).count().to_pyarrow().as_py():
        raise DataError(f"{path}: has no rows; give a file with at least two users' interactions")


def several(table: ir.Table, path: Path, key: str, column: str, what: str) -> None:
    """There are at least two different ids."""
    if table[key].nunique().to_pyarrow().as_py() < 2:
        only = table[key].first().to_pyarrow().as_py()
        raise DataError(f"{path}: column {column!r} knows one {what} only ({only}); at least two are needed to learn")


def _none(
    table: ir.Table, bad: ir.BooleanValue, path: Path, column: str, fault: str, remedy: str, value: str | None = None
) -> None:
    offenders = table.filter(bad)
    for first in _first(offenders):
        shown = first[value or column]
        text = "an empty field" if shown is None or shown == "" else repr(str(shown))
        raise DataError(f"{path}: row {first[ROW]}, column {column!r}: {text} {fault}{_in_all(offenders)}; {remedy}")


def _first(offenders: ir.Table) -> list[dict[str, Any]]:
    """The first row in the file's order, if there is one."""
    rows: list[dict[str, Any]] = offenders.order_by(ROW).limit(1).to_pyarrow().to_pylist()
    return rows


def _in_all(offenders: ir.Table) -> str:
    count = offenders.count().to_pyarrow().as_py()
    return f" ({count:,} such rows)" if count > 1 else ""
