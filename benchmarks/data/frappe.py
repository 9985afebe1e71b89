"""Frappe_x1: which app was used in which context (Baltrunas et al. 2015), as the BARS benchmark splits it.

288,609 rows of ten categorical fields; two apps that were not used for each that was.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.data.clicks import AbsentDataError, Clicks, Rows

OBTAIN = (
    "Frappe_x1 is not in {folder}: put train.csv, valid.csv and test.csv of https://huggingface.co/datasets/reczoo/"
    "Frappe_x1 there, gzipped or not. It is free for research and may not be passed on."
)
PARTS = (("train", "train_reconstructed"), ("valid",), ("test",))
"""Names of the three files, without .csv or .csv.gz; of train's the first that there is."""


def read(root: Path) -> Clicks:
    """Read frappe/frappe_x1 under a folder. Raises AbsentDataError."""
    folder = root / "frappe" / "frappe_x1"
    tables = [_table(folder, names) for names in PARTS]
    # The files number the words of all fields through; a vocabulary of its own for each begins at 0.
    lowest = np.min([table[:, 1:].min(axis=0) for table in tables], axis=0)
    highest = np.max([table[:, 1:].max(axis=0) for table in tables], axis=0)
    parts = [
        Rows(table[:, 1:] - lowest, np.zeros((len(table), 0), np.float32), table[:, 0].astype(np.float32))
        for table in tables
    ]
    return Clicks(tuple((highest - lowest + 1).tolist()), (1,) * len(lowest), *parts)


def _table(folder: Path, names: tuple[str, ...]) -> NDArray[np.int32]:
    for name in names:
        for path in (folder / f"{name}.csv", folder / f"{name}.csv.gz"):
            if path.exists():  # numpy unpacks what is gzipped
                return np.loadtxt(path, delimiter=",", skiprows=1, dtype=np.int32, ndmin=2)
    raise AbsentDataError(OBTAIN.format(folder=folder))
