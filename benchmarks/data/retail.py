"""Online Retail, the job's default data, cut in time: learned before the validation period, asked about the test's."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from benchmarks.data.task import Question, Task
from offline.config import Prepare, Train
from offline.data import dataset, tables
from offline.data import timelines as tl
from offline.data.timelines import Timelines
from offline.training.features import describe, text_encoder


def load(work: Path, config: Train) -> Task:
    """Prepare the tables in a folder; pairs are the distinct ones of users and items known before."""
    work.mkdir(parents=True, exist_ok=True)
    tables.prepare(tables.with_defaults(Prepare()), work)
    data = dataset.load(work)
    start = dataset.microseconds(data.split.validation_start)
    learned = tl.before(data.timelines, start)
    later = data.timelines.times >= start
    validation = _question(learned, data.timelines.users[later], data.timelines.items[later])
    test = dataset.test_period(work, data)
    features = describe(data, learned, config, text_encoder(data, learned, config))
    asked = _question(data.timelines, test.users, test.items)
    return Task(learned, len(data.items), features, validation, asked, repeats=True)


def _question(history: Timelines, users: np.ndarray, items: np.ndarray) -> Question:
    known = np.isin(users, history.users)
    pairs = np.unique(np.stack([users[known], items[known]], axis=1), axis=0).astype(np.int32)
    return Question(history, pairs[:, 0], pairs[:, 1])
