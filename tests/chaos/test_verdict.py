"""A verdict must be able to condemn."""

import numpy as np
import pytest
import typer

from tests.chaos.__main__ import tell
from tests.chaos.plan import Round, draw
from tests.chaos.run import PROOFS, Report, across_restarts
from tests.chaos.verdict import compare
from tests.chaos.watch import Sample, Watch

DUE = {("default", "v1", 3, 1): (4, 2, 1), ("default", "v1", 3, 2): (9, 3, 0)}
WELL = {"edges_different": 0, "lost": 0, "counted_twice": 0} | dict.fromkeys(PROOFS, 1)


def test_what_is_held_as_it_is_due_is_well() -> None:
    assert compare(DUE, DUE) == (2, 0, 0, 0)


def test_what_is_lost_and_what_counts_twice_do_not_make_up_for_each_other() -> None:
    held = {("default", "v1", 3, 1): (8, 2, 1), ("default", "v1", 4, 0): (0, 0, 5)}
    assert compare(held, DUE) == (3, 3, 12, 9)


def test_a_duplicate_is_across_a_restart_if_one_fold_had_the_first_copy_and_another_met_the_second() -> None:
    taken = {0: [(10, 12)], 1: []}
    repeats = [(0, 9, 12), (0, 9, 11), (0, 10, 12), (1, 9, 12), (0, 2, 40)]
    assert across_restarts(repeats, taken) == 2


def test_recovery_is_when_every_partition_has_passed_where_it_stood() -> None:
    watch = Watch.__new__(Watch)
    stood = [(1.0, [5, 5]), (2.0, [3, 6]), (3.0, [5, 7]), (4.0, [6, 5]), (5.0, [9, 9])]
    watch.samples = [Sample(at, np.array(positions)) for at, positions in stood]
    assert watch.recovery_s(1.5) == 2.5
    assert watch.recovery_s(4.5) == 0.5
    assert watch.recovery_s(5.5) is None
    assert watch.around(2.5, 0) == (3, 5)


@pytest.mark.parametrize("name", WELL)
def test_a_run_that_lost_something_or_proved_nothing_fails(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(typer.Exit) as ended:
        tell(Report(WELL | {name: 1 - WELL[name]}, []))
    assert ended.value.exit_code == 1
    assert capsys.readouterr().out.startswith('{"edges_different":')


@pytest.mark.parametrize(("complaints", "code"), [([], 0), (["a fold ended by itself"], 1)])
def test_a_run_without_complaints_ends_well(complaints: list[str], code: int) -> None:
    with pytest.raises(typer.Exit) as ended:
        tell(Report(WELL, complaints))
    assert ended.value.exit_code == code


def test_a_seed_repeats_its_plan() -> None:
    rounds: list[tuple[int, Round]] = [(3, {"fold": 2, "broker": 1}), (4, {"redis": 1})]
    plan = draw(1, 100, rounds)
    assert plan == draw(1, 100, rounds) != draw(2, 100, rounds)
    assert sum(due.faults.get("fold", 0) for due in plan) == 6
    assert [due.at_s for due in plan] == sorted(due.at_s for due in plan)
    assert all(0 < due.at_s < 100 for due in plan)
