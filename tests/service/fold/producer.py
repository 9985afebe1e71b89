"""Feedback for the state machine: records of every kind, good and bad, new and repeated."""

import random

import orjson

from service.token import AttributionToken, encode
from tests.service.fold.logs import impression, partition, reward
from tests.service.fold.memory_log import Topic
from tests.service.fold.model import Model
from tests.service.fold.slates import ITEMS, LIFE_S, a_slate
from tests.service.tokens import KEYS, VERSION

NEXT_VERSION = "20260202T000000Z"
SENSELESS: tuple[object, ...] = (b"\xff{", b"[]", b"[[1]]", b"7", {"type": "impression"}, ["odd", {"type": "reward"}])
SECONDS = (0, 0, 1, 4, 9, 25, 70)


class Producer:
    """Appends to the topic what users, and others, say; tells the model of each record."""

    def __init__(self, topic: Topic, model: Model) -> None:
        self._topic, self._model = topic, model
        self._slates: list[AttributionToken] = []
        self._slates_made = 0
        self.version = VERSION

    def write(self, count: int, chance: random.Random) -> None:
        """A few records more, each some seconds after the one before."""
        for _ in range(count):
            self._topic.now_ms += 1000 * chance.choice(SECONDS)
            slate = self._slate(chance)
            kind = chance.random()
            value: object
            if kind < 0.1:
                value = chance.choice(SENSELESS)
            elif kind < 0.2:
                value = self._forged(slate, chance)
            else:
                value = [self._event(slate, chance) for _ in range(chance.randint(1, 3))]
            home = partition(slate)
            if chance.random() < 0.05:
                home = chance.randrange(self._topic.partitions)
            key = slate.recommendation_id if chance.random() < 0.97 else "another"
            self._append(home, key.encode(), value if isinstance(value, bytes) else orjson.dumps(value))

    def repeat(self, home: int, back: int, count: int) -> None:
        """The records that lie `back` before a partition's end once more: a retry, or a replay of long ago."""
        records = self._topic.records[home]
        start = max(len(records) - 1 - back, self._topic.starts[home])
        for record in records[start : start + count]:
            self._append(home, record.key, record.value)

    def _append(self, home: int, key: bytes, value: bytes) -> None:
        self._model.append(home, self._topic.append(home, key, value))

    def _slate(self, chance: random.Random) -> AttributionToken:
        """One of the last slates, of an epoch that may be gone, or a new one."""
        if self._slates and chance.random() < 0.6:
            return chance.choice(self._slates[-6:])
        # Servers' clocks differ, by more than they may at times.
        issued_ms = self._topic.now_ms + 1000 * chance.choice((0, 0, 0, -30, -LIFE_S + 1, 59, 61))
        namespace = chance.choice(("default", "default", "paper"))
        # No server ever signs two tokens for one request.
        self._slates_made += 1
        slate = a_slate(self._slates_made, issued_ms, epoch=self._topic.epoch, namespace=namespace)
        self._slates.append(slate._replace(version=self.version))
        return self._slates[-1]

    def _event(self, slate: AttributionToken, chance: random.Random) -> object:
        shown = ITEMS[: len(slate.items)]
        kind = chance.randrange(9)
        if kind < 2:
            return impression(slate)
        if kind < 4:
            return impression(slate, items=chance.sample(shown, chance.randint(1, len(shown))))
        if kind < 8:
            value, name = chance.choice((0, 0.3, 1.0)), chance.choice(("click", "click", "watch"))
            return reward(slate, item_id=chance.choice(shown), name=name, value=value)
        return reward(slate, item_id=chance.choice(ITEMS), name=chance.choice(("click", "sold")))

    def _forged(self, slate: AttributionToken, chance: random.Random) -> object:
        token = encode(slate, 1, chance.choice((b"stolen", KEYS[7])))
        return chance.choice((impression, reward))(slate, attribution_token=token)
