"""Progress: how far the fold is, as metrics."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping

from service import metrics
from service.fold.partition import PartitionFold

OF_PARTITIONS = (metrics.FOLD_POSITION, metrics.FOLD_LAG, metrics.FOLD_BEHIND_SECONDS)


def export(folds: Iterable[PartitionFold], ends: Mapping[int, int]) -> None:
    """Each partition's position, the records that are not folded yet, and the age of the last one that is.

    `ends`: partition → the log's end. Who has folded all is not behind, however old the last record is.
    """
    now_ms = time.time() * 1000
    for fold in folds:
        lag = max(0, ends[fold.partition] - fold.position)
        behind_ms = now_ms - fold.folded_ms if lag and fold.folded_ms else 0
        metrics.FOLD_POSITION.labels(fold.partition).set(fold.position)
        metrics.FOLD_LAG.labels(fold.partition).set(lag)
        metrics.FOLD_BEHIND_SECONDS.labels(fold.partition).set(max(0, behind_ms) / 1000)


def export_totals(totals: Mapping[str, int]) -> None:
    """Events by outcome, as Redis has counted them."""
    for outcome, count in totals.items():
        metrics.EVENTS_FOLDED.labels(outcome).set(count)


def forget(partition: int) -> None:
    """Say no more of a partition that another fold has now."""
    for metric in OF_PARTITIONS:
        metric.remove(partition)
    metrics.FOLD_STOPPED.labels(partition).set(0)
