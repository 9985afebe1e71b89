"""Visits grow row by row and are read column by column."""

import numpy as np

from loadtest.visits import VisitLog


def test_reads_what_was_appended() -> None:
    log = VisitLog()
    assert len(log.visits().shown) == 0
    log.append(0.5, 1, 10, 2, 10, 3)
    first = log.visits()
    log.append(0.75, 0, 8, 0, 10, 1)
    visits = log.visits()
    assert len(log) == 2
    assert len(first.arm) == 1  # a copy: the log goes on growing
    assert visits.seconds.tolist() == [0.5, 0.75]
    assert (visits.arm.tolist(), visits.shown.tolist(), visits.clicked.tolist()) == ([1, 0], [10, 8], [2, 0])
    assert (visits.oracle_shown.tolist(), visits.oracle_clicked.tolist()) == ([10, 10], [3, 1])
    assert visits.arm.dtype == np.int64


def test_of_one_arm() -> None:
    log = VisitLog()
    for arm in (0, 1, 0):
        log.append(1.0, arm, 10, arm, 10, 0)
    assert log.visits().of_arm(0).clicked.tolist() == [0, 0]
    assert log.visits().of_arm(1).clicked.tolist() == [1]
