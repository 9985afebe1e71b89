"""The audit: a server proves, some rows at a time, that what it holds is what Redis holds.

Redis answers, for the rows of one shard, their checksums and the number of the shard's last change at that moment. The
server compares when it has applied exactly that change, so it may be asked while events pour in.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from service import metrics
from service.learned import Learned
from service.store.keys import RowName
from service.store.redis import Checksum, Store

ROWS_AT_A_TIME = 64
EVERY_S = 1.0
PATIENCE_S = 30.0


class Question(NamedTuple):
    """Rows of one shard as Redis had them after its change number `sequence`."""

    shard: int
    sequence: int
    names: Sequence[RowName]
    checksums: Sequence[Checksum]


class Audit:
    """One server's, over all rows that it follows, in turn and for ever: one question a second."""

    def __init__(self, learned: Learned, store: Store) -> None:
        self._learned = learned
        self._store = store
        self._turn = self._chunks()
        self._question: Question | None = None
        self._asked = time.monotonic()

    def is_due(self) -> bool:
        """Whether it is time to ask; a change that does not come is not waited for for ever."""
        return time.monotonic() - self._asked >= (EVERY_S if self._question is None else PATIENCE_S)

    def drop(self) -> None:
        """Forget what was asked: a shard is read anew."""
        self._question = None

    def ask(self) -> tuple[int, int] | None:
        """Ask about the next rows: their shard and the number of its last change; None where Redis lacks the function.

        Raises:
            redis.RedisError: Redis does not answer.
        """
        self._asked = time.monotonic()
        shard, names = next(self._turn)
        answer = self._store.checksums(shard, names)
        if answer is None:
            return None
        self._question = Question(shard, answer.sequence, names, answer.rows)
        return shard, answer.sequence

    def differing(self, shard: int, sequence: int) -> list[RowName]:
        """Rows that are not what Redis had; [] if nothing was asked of this shard at this change.

        To be called whenever the shard's change number `sequence` is the last that was applied.
        """
        asked = self._question
        if asked is None or asked.shard != shard or sequence != asked.sequence:
            return []
        self._question = None
        different = [
            name for name, checksum in zip(asked.names, asked.checksums, strict=True) if not self._is(name, checksum)
        ]
        metrics.REPLICA_CHECKED.inc(len(asked.names))
        metrics.REPLICA_MISMATCHES.inc(len(different))
        return different

    def _is(self, name: RowName, checksum: Checksum) -> bool:
        """A row in Redis ends where the last edge was touched: what we hold beyond must be nothing."""
        row = self._learned.row(name)
        known = row[: checksum.length]
        return (
            len(known) == checksum.length
            and not any(row[checksum.length :])
            and hashlib.sha1(known, usedforsecurity=False).hexdigest() == checksum.sha1
        )

    def _chunks(self) -> Iterator[tuple[int, Sequence[RowName]]]:
        keys = self._store.keys
        while True:
            for shard in range(keys.shards):
                names = self._learned.names(keys, shard)
                for start in range(0, max(1, len(names)), ROWS_AT_A_TIME):
                    yield shard, names[start : start + ROWS_AT_A_TIME]
