"""Rows of a table as separate fields: a bag of hashed words for each column of words, and all numbers normalised."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

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
    """Read every column but the key.

    Args:
        table: n rows.
        key: the column of ids, left out.
        learn_from: bool[n], the rows from which the numbers' means and deviations are taken.
        buckets: hash buckets, ≥ 2; bucket 0 stays empty.
        width: most words a row keeps in a column.
    """
    columns = [name for name in table.column_names if name != key]
    numeric = [name for name in columns if is_number(table[name].type)]
    read = [hashed(words(table[name], name), buckets, width) for name in columns if name not in numeric]
    numbers = [_normalised(table[name], learn_from) for name in numeric]
    return Fields(
        tuple(column for column in read if column.any()),  # a column that tells nothing needs no token
        np.stack(numbers, axis=1) if numbers else np.zeros((len(table), 0), dtype=np.float32),
    )


def _normalised(column: pa.ChunkedArray, learn_from: NDArray[np.bool_]) -> NDArray[np.float32]:
    """float32[n]: logarithms (prices and counts spread over magnitudes) of mean 0 and deviation 1 where learned."""
    values = np.array([np.nan if value is None else float(value) for value in column.to_pylist()])
    values[~np.isfinite(values)] = np.nan
    values = np.sign(values) * np.log1p(np.abs(values))
    learned = values[learn_from & ~np.isnan(values)]
    if not len(learned):
        return np.zeros(len(values), dtype=np.float32)
    scaled = (values - learned.mean()) / max(float(learned.std()), 1e-6)
    return np.asarray(np.nan_to_num(scaled), dtype=np.float32)
