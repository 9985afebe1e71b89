"""The contract between a run and what it hurts: a running system, and the faults that may befall it."""

from collections import Counter
from pathlib import Path
from typing import Protocol

from service.feedback_log.base import FeedbackLog
from service.settings import Settings
from service.store.redis import Store

Place = tuple[int, int, int]  # partition, offset, index in the record


class System(Protocol):
    """A log, folds and an API under load."""

    @property
    def settings(self) -> Settings: ...
    @property
    def log(self) -> FeedbackLog: ...
    @property
    def epoch(self) -> bytes: ...
    @property
    def url(self) -> str:
        """Of the API."""
        ...

    def store(self) -> Store:
        """A store of its own; its owner closes it."""
        ...

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        """Append a record, whenever the log takes it."""
        ...

    def flush(self) -> None:
        """Wait until the log has all that was sent."""
        ...

    def activate(self, version: str) -> None:
        """Let the API serve a bundle; asked again where it cannot do it now."""
        ...

    def dead_letters(self) -> set[Place]:
        """The distinct places of all dead letters."""
        ...

    def fold_logs(self) -> list[Path]:
        """What the folds told, in JSON lines."""
        ...

    def died(self) -> list[str]:
        """Parts that ended by themselves, which nothing may make them do."""
        ...


class Faults(Protocol):
    """What the scheduler can do to a system.

    Attributes:
        version: which bundle is active.
        kills: how many of each kind.
        killed_at: (kind, Unix time) of every kill.
        rolled_back: how far watermarks went back at Redis's restarts, in records.
    """

    version: str
    kills: Counter[str]
    killed_at: list[tuple[str, float]]
    rolled_back: int

    def happen(self, kind: str, many: int) -> None:
        """One round of the plan."""
        ...

    def look(self) -> None:
        """Note what ended by itself, and start it again."""
        ...

    def calm(self) -> None:
        """Let everybody run, as long as there is something to fold."""
        ...

    def close(self) -> None:
        """Let everything go."""
        ...
