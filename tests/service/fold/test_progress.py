import time
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import REGISTRY

from service.fold import progress


def metric(name: str, partition: int) -> float | None:
    return REGISTRY.get_sample_value(name, {"partition": str(partition)})


def fold(partition: int, position: int, age_s: float | None) -> Any:
    folded_ms = 0 if age_s is None else int((time.time() - age_s) * 1000)
    return SimpleNamespace(partition=partition, position=position, folded_ms=folded_ms)


def test_a_partition_with_a_backlog_is_as_far_behind_as_its_last_record_is_old() -> None:
    progress.export([fold(90, 7, 3600)], {90: 10})
    assert (metric("om_fold_position", 90), metric("om_fold_lag_records", 90)) == (7, 3)
    assert metric("om_fold_behind_seconds", 90) == pytest.approx(3600, abs=60)


@pytest.mark.parametrize(("position", "age_s"), [(10, 3600), (12, 3600), (7, None)])
def test_who_has_folded_all_is_not_behind_nor_is_it_known_before_the_first(position: int, age_s: float | None) -> None:
    progress.export([fold(91, position, age_s)], {91: 10})
    assert metric("om_fold_behind_seconds", 91) == 0
    assert metric("om_fold_lag_records", 91) == max(0, 10 - position)


def test_of_a_partition_that_went_elsewhere_nothing_is_said() -> None:
    progress.export([fold(92, 1, 5), fold(93, 1, 5)], {92: 2, 93: 2})
    progress.forget(92)
    progress.forget(92)
    assert metric("om_fold_lag_records", 92) is None
    assert metric("om_fold_stopped", 92) == 0
    assert metric("om_fold_lag_records", 93) == 1


def test_totals_are_those_of_redis() -> None:
    progress.export_totals({"folded": 5, "late": 1})
    progress.export_totals({"folded": 6})
    assert REGISTRY.get_sample_value("om_events_folded", {"outcome": "folded"}) == 6
    assert REGISTRY.get_sample_value("om_events_folded", {"outcome": "late"}) == 1
