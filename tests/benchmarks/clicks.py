"""Invented clicks: the label is whether two fields agree, which no field tells alone."""

import numpy as np

from benchmarks.data.clicks import Clicks, Rows


def agreeing(rows: int = 256) -> Clicks:
    """Two fields of three words, one of two columns that says nothing, a number that says nothing."""

    def part(seed: int) -> Rows:
        generator = np.random.default_rng(seed)
        ids = generator.integers(0, 3, (rows, 4)).astype(np.int32)
        ids[:, 3] = np.where(ids[:, 3] == 0, -1, ids[:, 3])
        numbers = generator.normal(size=(rows, 1)).astype(np.float32)
        return Rows(ids, numbers, (ids[:, 0] == ids[:, 1]).astype(np.float32))

    return Clicks((3, 3, 3), (1, 1, 2), part(0), part(1), part(2))
