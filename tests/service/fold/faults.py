"""What may go wrong between a fold and Redis: a call that is cut off at any shard, and a Redis that went back."""

from collections.abc import Callable, Collection, Sequence
from typing import NamedTuple, cast

import redis

from service.store.deltas import Limits, ShardDeltas
from service.store.redis import Store

Dump = dict[bytes, bytes]


class Crash(BaseException):
    """The process is gone, here and now. Nothing in the product may catch it."""


class Interruption(NamedTuple):
    """Comes between the shards of the next `fold`: those before `reached` add, then it strikes, then the others add.

    A strike that raises ends the call; one that returns was a pause, in which the world went on.
    """

    reached: int
    strike: Callable[[], None]


class FaultyStore(Store):
    """The real store, whose next calls may be interrupted."""

    interruption: Interruption | None = None
    unanswered = 0  # so many questions for watermarks fail

    def fold(self, field: str, shards: Sequence[ShardDeltas], limits: Limits) -> list[tuple[bool, int]]:
        interruption, self.interruption = self.interruption, None
        if interruption is None:
            return super().fold(field, shards, limits)
        answers = super().fold(field, shards[: interruption.reached], limits)
        interruption.strike()
        return answers + super().fold(field, shards[interruption.reached :], limits)

    def watermarks(self, epoch: bytes, partitions: Sequence[int]) -> dict[int, list[int]]:
        if self.unanswered and partitions:
            self.unanswered -= 1
            raise redis.ConnectionError("on purpose")
        return super().watermarks(epoch, partitions)


def dump(store: Store) -> dict[int, Dump]:
    """A copy of every shard."""
    return {shard: _dump(store, shard) for shard in range(store.keys.shards)}


def restore(store: Store, copy: dict[int, Dump], shards: Collection[int]) -> None:
    """Let shards be what they were when the copy was made."""
    for shard in shards:
        pipeline = store.client.pipeline(transaction=True)
        if present := _keys(store, shard):
            pipeline.delete(*present)
        for key, value in copy[shard].items():
            pipeline.restore(key, 0, value)
        pipeline.execute()


def _keys(store: Store, shard: int) -> list[bytes]:
    return cast(list[bytes], store.client.keys(f"{store.keys.prefix}:{{{shard}}}:*"))


def _dump(store: Store, shard: int) -> Dump:
    keys = _keys(store, shard)
    pipeline = store.client.pipeline(transaction=True)
    for key in keys:
        pipeline.dump(key)
    return dict(zip(keys, pipeline.execute(), strict=True))
