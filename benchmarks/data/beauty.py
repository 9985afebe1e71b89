"""Amazon Beauty as S3-Rec prepared it: 22,363 users, 12,101 items, 198,502 reviews in order; no user twice of an item.

Published on it, over the full catalogue: SASRec HR@10 .0605 (S3-Rec, Zhou et al. 2020). What a user had, the
validation's item included, is not recommended there either.
"""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

from benchmarks.data.task import Task, leave_one_out

FILE = Path("amazon-beauty") / "Beauty.txt.gz"
OBTAIN = (
    f"Amazon Beauty is not there: put Beauty.txt of the repository RUCAIBox/CIKM2020-S3Rec (folder data), gzipped, at "
    f"FOLDER/{FILE} and pass --data FOLDER"
)


def load(folder: Path) -> Task:
    """Read a line a user (its number, then items from 1 on) from a data folder; FileNotFoundError without the file."""
    with gzip.open(folder / FILE, "rt") as lines:
        sequences = [np.array(line.split()[1:], dtype=np.int32) - 1 for line in lines]
    return leave_one_out(sequences, 1 + max(int(sequence.max()) for sequence in sequences), repeats=False)
