"""What must stop by its name, and nothing else happen."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tests.service.fold import model as models

if TYPE_CHECKING:
    from tests.service.fold.machine import FoldMachine


class Standstill:
    """Inside it these partitions must be stopped, with an error that says so, and Redis not change."""

    def __init__(self, machine: "FoldMachine", stopped: Sequence[int], why: str) -> None:
        self._machine, self._stopped, self._why = machine, set(stopped), why

    def __enter__(self) -> None:
        self._before = self._state()
        self._told = len(self._machine.logs.entries)

    def __exit__(self, *failure: Any) -> None:
        if failure[0] is not None:
            return
        told = self._machine.logs.entries[self._told :]
        named = {
            entry["partition"]
            for entry in told
            if entry["log_level"] == "error" and "partition" in entry and self._why in entry["error"]
        }
        assert named >= self._stopped, f"only {named} stopped by name"
        assert self._state() == self._before

    def _state(self) -> Any:
        store = self._machine.store
        return models.with_users(store, models.live(store)), self._machine.positions()
