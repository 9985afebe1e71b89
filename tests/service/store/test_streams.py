from collections.abc import Iterator
from threading import Event
from typing import Any

import numpy as np
import pytest

from service.store.changes import Change
from service.store.streams import Streams
from tests.service.servers import until

NOBODY: Any = np.zeros(0, dtype=np.int64)
LONG_MS = 60_000


def entry(number: int) -> Change:
    return Change(f"{number}-0", number, NOBODY, NOBODY, [])


class Shards:
    """What the shards' servers would answer: a read waits until it is let go."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []
        self.answers: dict[int, list[Change] | Exception] = {}
        self.told = {shard: Event() for shard in range(3)}

    def tell(self, shard: int, answer: list[Change] | Exception) -> None:
        self.answers[shard] = answer
        self.told[shard].set()

    def read(self, shard: int, after: str, block_ms: int) -> list[Change]:
        self.asked.append((shard, after))
        if not self.told[shard].wait(block_ms / 1000):
            return []
        self.told[shard].clear()
        answer = self.answers[shard]
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def shards() -> Shards:
    return Shards()


@pytest.fixture
def streams(shards: Shards) -> Iterator[Streams]:
    streams = Streams(3, shards.read)
    yield streams
    for shard in shards.told:
        shards.tell(shard, [])
    streams.close()


def test_news_of_one_shard_wakes_while_the_others_wait_on(shards: Shards, streams: Streams) -> None:
    after = {0: "0-0", 1: "0-0", 2: "0-0"}
    shards.tell(1, [entry(1)])
    assert streams.changes(after, LONG_MS) == {1: [entry(1)]}
    shards.tell(2, [entry(7)])
    assert streams.changes(after | {1: "1-0"}, LONG_MS) == {2: [entry(7)]}
    # The read of shard 0 was never begun again, and none was begun twice.
    assert sorted(shards.asked) == [(0, "0-0"), (1, "0-0"), (1, "1-0"), (2, "0-0")]


def test_without_news_nothing_is_answered(streams: Streams) -> None:
    assert streams.changes({0: "0-0", 1: "0-0"}, 1) == {}
    assert streams.changes({}, LONG_MS) == {}


def test_a_read_that_was_under_way_does_not_end_the_wait(shards: Shards, streams: Streams) -> None:
    """It is begun again for the rest of the time, so that its shard is always listened to."""
    after = {0: "0-0", 1: "0-0"}
    shards.tell(0, [entry(1)])
    assert streams.changes(after, LONG_MS) == {0: [entry(1)]}
    shards.tell(1, [])  # as if its time was up
    assert streams.changes(after | {0: "1-0"}, 50) == {}
    assert shards.asked.count((1, "0-0")) == 2


def test_another_position_is_read_from_there(shards: Shards, streams: Streams) -> None:
    """What comes of the old position is nobody's any more."""
    shards.tell(0, [entry(1)])
    assert streams.changes({0: "0-0", 1: "9-0"}, LONG_MS) == {0: [entry(1)]}
    shards.tell(1, [entry(10)])
    until(lambda: not shards.told[1].is_set())  # the old read took it
    shards.tell(1, [entry(6)])
    assert streams.changes({1: "5-0"}, LONG_MS) == {1: [entry(6)]}


def test_a_read_that_fails_is_told_and_begun_again(shards: Shards, streams: Streams) -> None:
    shards.tell(1, ConnectionError("away"))
    with pytest.raises(ConnectionError, match="away"):
        streams.changes({0: "0-0", 1: "0-0"}, LONG_MS)
    shards.tell(1, [entry(1)])
    assert streams.changes({0: "0-0", 1: "0-0"}, LONG_MS) == {1: [entry(1)]}
