"""What the fold must come to: the single pass over everything that was ever appended, whatever happened meanwhile."""

from typing import Any, NamedTuple, cast

import numpy as np
import redis

from service.feedback_log.base import Record
from service.store.redis import Store
from tests.service.fold.logs import MANIFEST
from tests.service.fold.memory_log import Epoch, Place
from tests.service.single_pass import Edge, Rules, SinglePass, Sums
from tests.service.tokens import KEYS, PSEUDONYM_KEY

UserSet = dict[tuple[bytes, bytes], dict[int, int]]  # user and kind → item → time of its token


class Live(NamedTuple):
    """What Redis holds."""

    statistics: dict[Edge, Sums]
    totals: dict[str, int]
    users: UserSet


class Model:
    """Single passes over the log of each epoch there was, added up."""

    def __init__(self, partitions: int, window: int, epoch: Epoch) -> None:
        self._partitions, self._window = partitions, window
        self._letters: set[tuple[Epoch, Place]] = set()
        self._pass = SinglePass(self._rules(epoch))

    @property
    def letters(self) -> set[tuple[Epoch, Place]]:
        """Every dead letter there must be."""
        return self._letters | {(self._pass.rules.epoch, place) for place in self._pass.dead_letters}

    def append(self, partition: int, record: Record) -> None:
        """One record more."""
        self._pass.read(partition, record)

    def begin_anew(self, epoch: Epoch) -> None:
        """The log begins anew; what was learned stays."""
        self._letters = self.letters
        before, self._pass = self._pass, SinglePass(self._rules(epoch))
        self._pass.statistics, self._pass.totals = before.statistics, before.totals
        self._pass.seen, self._pass.answered = before.seen, before.answered

    def exceeded_by(self, live: Live) -> list[Any]:
        """Where Redis holds more than it may at any moment: something counted twice."""
        nothing = (0, 0, 0)
        edges = [
            edge
            for edge, sums in live.statistics.items()
            if any(found > due for found, due in zip(sums, self._pass.statistics.get(edge, nothing), strict=True))
        ]
        outcomes = [name for name, count in live.totals.items() if count > self._pass.totals[name]]
        return [*edges, *outcomes]

    def outcome(self, kept: int) -> Live:
        """What Redis must hold in the end; of a user the newest `kept` items."""
        outcome = self._pass.outcome()
        users = {
            (user, kind): dict(sorted(items.items(), key=_rank)[-kept:])
            for kind, by_user in ((b"seen", outcome.seen), (b"recent", outcome.answered))
            for user, items in by_user.items()
        }
        return Live(outcome.statistics, outcome.totals, users)

    def _rules(self, epoch: Epoch) -> Rules:
        return Rules(KEYS, PSEUDONYM_KEY, epoch, self._partitions, self._window, lambda _: MANIFEST)


def live(store: Store) -> Live:
    """Read everything; users' sets one by one, the rest in one go."""
    client, prefix = store.client, store.keys.prefix
    names = cast(list[bytes], client.keys(f"{prefix}:*:row:*"))
    rows = cast(list[bytes], client.mget(names) if names else [])
    statistics: dict[Edge, Sums] = {}
    for name, row in zip(names, rows, strict=True):
        namespace, version, _, cluster = name.decode().split(":row:")[1].split(":")
        sums = np.frombuffer(row.ljust(-(-len(row) // 24) * 24, b"\0"), dtype=">i8").reshape(-1, 3)
        for slot in np.flatnonzero(sums.any(axis=1)).tolist():
            d, n, b = sums[slot].tolist()
            statistics[namespace, version, int(cluster), slot] = d, n, b
    return Live(statistics, {name: count for name, count in store.totals().items() if count}, {})


def with_users(store: Store, found: Live) -> Live:
    """The same with users' own state."""
    users: UserSet = {}
    for key in cast(list[bytes], store.client.keys(f"{store.keys.prefix}:*:user:*")):
        user, kind = key.rsplit(b":", 2)[1:]
        users[bytes.fromhex(user.decode()), kind] = _scores(store.client, key)
    return found._replace(users=users)


def _scores(client: redis.Redis, key: bytes) -> dict[int, int]:
    scores: Any = client.zrange(key, 0, -1, withscores=True)
    return {int.from_bytes(item, "little"): int(score) for item, score in scores}


def _rank(item: tuple[int, int]) -> tuple[int, bytes]:
    """A sorted set's order: by score, then by the member's bytes."""
    return item[1], item[0].to_bytes(4, "little")
