"""Rows of a table as separate fields: a bag of hashed words for each column of words, and all numbers normalised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from bandit.manifest import Column, Reading
from offline.features.tokens import hashed, is_number, words


class Fields(NamedTuple):
    """What is known of n rows.

    Attributes:
        words: for each of F columns of text, categories or lists of them, int32[n, M_f] of hashed words, then EMPTY.
        numbers: float32[n, D], columns of numbers; what is missing is 0, the mean.
        vectors: for each of V models of their own (of text, say), float32[n, D_v] of length 1, 0 for what has none.
    """

    words: tuple[NDArray[np.int32], ...]
    numbers: NDArray[np.float32]
    vectors: tuple[NDArray[np.float32], ...] = ()


def fields(table: pa.Table, key: str, learn_from: NDArray[np.bool_], buckets: int, width: int) -> Fields:
    """Read every column but the key; the arguments are those of `learn`."""
    return read(table, learn(table, key, learn_from, buckets, width))


def learn(table: pa.Table, key: str, learn_from: NDArray[np.bool_], buckets: int, width: int) -> Reading:
    """How to read every column but the key.

    Args:
        table: n rows.
        key: the column of ids, left out.
        learn_from: bool[n], the rows from which the numbers' means and deviations are taken.
        buckets: hash buckets, ≥ 2; bucket 0 stays empty.
        width: most words a row keeps in a column.
    """
    columns = [name for name in table.column_names if name != key]
    numeric = [name for name in columns if is_number(table[name].type)]
    # A column that tells nothing is left out.
    read_as_words = [name for name in columns if name not in numeric and any(words(table[name], name))]
    spreads = [_spread(table[name], name, learn_from) for name in numeric]
    found = [*(Column(name=name, kind="words") for name in read_as_words), *(known for known in spreads if known)]
    return Reading(buckets=buckets, words_per_row=width, columns=found)


def read(table: pa.Table, reading: Reading) -> Fields:
    """Read a table's rows; it has all the columns that `reading` names."""
    kinds = {kind: [column for column in reading.columns if column.kind == kind] for kind in ("words", "number")}
    numbers = [_normalised(table[column.name], column) for column in kinds["number"]]
    return Fields(
        tuple(
            hashed(words(table[column.name], column.name), reading.buckets, reading.words_per_row)
            for column in kinds["words"]
        ),
        np.stack(numbers, axis=1) if numbers else np.zeros((len(table), 0), dtype=np.float32),
    )


def _spread(column: pa.ChunkedArray, name: str, learn_from: NDArray[np.bool_]) -> Column | None:
    values = _logarithms(column)
    learned = values[learn_from & ~np.isnan(values)]
    if not len(learned):
        return None
    return Column(name=name, kind="number", mean=float(learned.mean()), deviation=max(float(learned.std()), 1e-6))


def _normalised(column: pa.ChunkedArray, by: Column) -> NDArray[np.float32]:
    """float32[n]: of mean 0 and deviation 1 where learned."""
    return np.nan_to_num((_logarithms(column) - by.mean) / by.deviation).astype(np.float32)


def _logarithms(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """float64[n]: prices and counts spread over magnitudes; NaN where missing."""
    values = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
    values[~np.isfinite(values)] = np.nan
    logarithms: NDArray[np.float64] = np.sign(values) * np.log1p(np.abs(values))
    return logarithms
