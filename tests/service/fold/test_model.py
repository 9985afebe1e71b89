"""The fold against its model, whatever happens around it. `make fold-model` takes many more steps."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.store.keys import Keys
from service.store.redis import Store
from tests.service.fold.explore import explore, in_a_hurry
from tests.service.fold.machine import SHARDS, FoldMachine, machine
from tests.service.fold.mutants import MUTANTS


@pytest.fixture(autouse=True)
def _in_a_hurry() -> Iterator[None]:
    with in_a_hurry():
        yield


@pytest.fixture
def folds(store: Store, tmp_path: Path) -> type[FoldMachine]:
    return machine(Store(store.client, Keys("om", SHARDS)), str(tmp_path / "bundles"))


def test_nothing_is_lost_and_nothing_counts_twice(folds: type[FoldMachine]) -> None:
    explore(folds, 40, 20261124)
    assert folds.ran["steps"] > 1000
    assert folds.ran["comparisons"] > 100


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.__name__)
def test_a_bug_is_caught(
    mutant: Callable[[pytest.MonkeyPatch], None], folds: type[FoldMachine], monkeypatch: pytest.MonkeyPatch
) -> None:
    mutant(monkeypatch)
    with pytest.raises(AssertionError):
        explore(folds, 60, 20261124)
