"""Rows of a table as bags of hashed tokens: words of text, categories, and buckets of numbers.

Hashing (Weinberger et al. 2009) needs no vocabulary, so an item that nobody has seen is described like any other;
only the buckets' edges are learned, from rows the caller names.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from zlib import crc32

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

EMPTY = 0
NUM_QUANTILES = 10
_WORD = re.compile(r"\w+")


def bags(table: pa.Table, key: str, learn_from: NDArray[np.bool_], buckets: int, width: int) -> NDArray[np.int32]:
    """Hash every column but the key.

    Args:
        table: n rows. Text and lists of text give a token per word; true/false one; numbers the decile they fall in.
            Other types and missing values give none.
        key: the column of ids, left out.
        learn_from: bool[n], the rows from which deciles are taken.
        buckets: hash buckets, ≥ 2; bucket 0 stays empty.
        width: most tokens a row keeps.

    Returns:
        int32[n, M] with M ≤ width as the longest row needs, at least 1; tokens in [1, buckets), then EMPTY.
    """
    found: list[list[str]] = [[] for _ in range(len(table))]
    for name in table.column_names:
        if name == key:
            continue
        read = deciles(table[name], name, learn_from) if is_number(table[name].type) else words(table[name], name)
        for row, column in zip(found, read, strict=True):
            row.extend(column)
    return hashed(found, buckets, width)


def hashed(rows: Iterable[list[str]], buckets: int, width: int) -> NDArray[np.int32]:
    """int32[n, M]: each row's first `width` tokens as buckets, ascending and unique, then EMPTY; M as `bags` says."""
    kept = [sorted({1 + crc32(token.encode()) % (buckets - 1) for token in row[:width]}) for row in rows]
    found = np.full((len(kept), max([1, *map(len, kept)])), EMPTY, dtype=np.int32)
    for number, places in enumerate(kept):
        found[number, : len(places)] = places
    return found


def is_number(kind: pa.DataType) -> bool:
    """Whether a column's values are numbers (true and false are words)."""
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_decimal(kind))


def words(column: pa.ChunkedArray, name: str) -> Iterator[list[str]]:
    """Each row's tokens in a column of words: text and lists of text give one per word, true/false one."""
    kind = column.type
    reader: Callable[[object], list[str]]
    if pa.types.is_boolean(kind):
        reader = _one
    elif pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_list(kind):
        reader = _text
    else:
        reader = _nothing
    for value in column.to_pylist():
        yield [f"{name}={word}" for word in reader(value)] if value is not None else []


def deciles(column: pa.ChunkedArray, name: str, learn_from: NDArray[np.bool_]) -> Iterator[list[str]]:
    """Each row's token in a column of numbers: the decile it falls in among the rows of `learn_from`."""
    numbers = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
    learned = numbers[learn_from & np.isfinite(numbers)]
    edges = np.quantile(learned, np.linspace(0, 1, NUM_QUANTILES + 1)[1:-1]) if len(learned) else np.empty(0)
    places = np.searchsorted(edges, numbers, side="right")
    for number, place in zip(numbers, places, strict=True):
        yield [f"{name}=decile {place}"] if np.isfinite(number) else []


def _one(value: object) -> list[str]:
    return [str(value)]


def _text(value: object) -> list[str]:
    texts = value if isinstance(value, list) else [value]
    return [word for text in texts for word in _WORD.findall(str(text).lower())]


def _nothing(value: object) -> list[str]:  # noqa: ARG001
    return []
