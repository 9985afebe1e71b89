"""Rows of features and whether each was answered, split in three: what a model of interactions learns from."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Rows(NamedTuple):
    """N rows.

    Attributes:
        ids: int32[N, C], a place in its field's vocabulary; −1 is empty.
        numbers: float32[N, D].
        labels: float32[N], 0 or 1.
    """

    ids: NDArray[np.int32]
    numbers: NDArray[np.float32]
    labels: NDArray[np.float32]


class Clicks(NamedTuple):
    """A data set of F fields.

    Attributes:
        sizes: of the fields' vocabularies.
        columns: how many columns of `ids` each field takes, at least one.
        train, validation, test: the parts.
    """

    sizes: tuple[int, ...]
    columns: tuple[int, ...]
    train: Rows
    validation: Rows
    test: Rows


class AbsentDataError(Exception):
    """A data set is not in the folder that was named; the message says how to obtain it."""


def take(rows: Rows, places: NDArray[np.intp]) -> Rows:
    """Some of the rows."""
    return Rows(rows.ids[places], rows.numbers[places], rows.labels[places])
