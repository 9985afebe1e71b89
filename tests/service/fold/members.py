"""The folds of the state machine, and how much of what they do happens when."""

from collections.abc import Callable
from concurrent.futures import Executor, Future
from functools import partial
from typing import Any

import redis

from service.fold.process import FoldProcess
from service.settings import Settings
from service.store.keys import Keys
from tests.service.fold.faults import FaultyStore
from tests.service.fold.memory_log import MemoryLog, Topic


class Later(Executor):
    """Does what it is told when the result is asked for, or before the next step: until then the world goes on."""

    def __init__(self) -> None:
        self._work: list[_Work] = []

    def submit(self, function: Callable[..., Any], /, *arguments: Any, **named: Any) -> Future[Any]:
        self._work.append(_Work(partial(function, *arguments, **named)))
        return self._work[-1]

    def catch_up(self) -> None:
        """Do what nobody asked for yet."""
        while self._work:
            self._work.pop(0).do()


class _Work(Future[Any]):
    def __init__(self, work: Callable[[], Any]) -> None:
        super().__init__()
        self._work: Callable[[], Any] | None = work

    def do(self) -> None:
        work, self._work = self._work, None
        if work is not None:
            try:
                self.set_result(work())
            except Exception as error:  # noqa: BLE001 - it is told as a thread's would be
                self.set_exception(error)

    def result(self, timeout: float | None = None) -> Any:
        self.do()
        return super().result(timeout)


class Member:
    """One fold: its client of the log, its connection to Redis, its process."""

    def __init__(self, settings: Settings, topic: Topic, client: redis.Redis) -> None:
        self.log = MemoryLog(topic)
        self.store = FaultyStore(client, Keys(settings.key_prefix, settings.shards))
        self.adding = Later()
        self.process = FoldProcess(settings, self.log, self.store, adding=self.adding)
        self.busy = False
