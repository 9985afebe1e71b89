"""Memory: what a duplicate window was told, in a form that can be kept and told to another window."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from service.fold.window import Window

NOTHING: NDArray[np.int64] = np.zeros(0, dtype=np.int64)


class Memory(NamedTuple):
    """What the last N records said.

    Attributes:
        offsets, append_ms: int64[n], of the records, one more than N of them.
        said: int64[m], for each of their keys the offset of the record that held it, in the order of the telling.
        keys, masks: the keys and the positions they were told with, each joined.
        key_bytes, mask_bytes: int64[m], how many bytes of those belong to each.
    """

    offsets: NDArray[np.int64]
    append_ms: NDArray[np.int64]
    said: NDArray[np.int64]
    keys: bytes
    key_bytes: NDArray[np.int64]
    masks: bytes
    mask_bytes: NDArray[np.int64]


EMPTY = Memory(NOTHING, NOTHING, NOTHING, b"", NOTHING, b"", NOTHING)


class RememberingWindow(Window):
    """A window that can say what it was told."""

    def __init__(self, records: int) -> None:
        super().__init__(records)
        self._most = records
        self._at = -1
        self._entered: deque[tuple[int, int]] = deque()
        self._told: deque[tuple[int, bytes, int]] = deque()

    def enter(self, offset: int, append_ms: int) -> None:
        """Move on to the record at `offset`, as every window does."""
        super().enter(offset, append_ms)
        self._at = offset
        self._entered.append((offset, append_ms))
        oldest = offset - self._most
        while self._entered[0][0] < oldest:
            self._entered.popleft()
        while self._told and self._told[0][0] < oldest:
            self._told.popleft()

    def add(self, key: bytes, positions: int) -> int:
        """Note that the current record speaks of `positions`, as every window does."""
        self._told.append((self._at, key, positions))
        return super().add(key, positions)

    def memory(self) -> Memory:
        """What another window must be told to judge as this one does."""
        offsets, append_ms = _columns(self._entered)
        masks = [mask.to_bytes((mask.bit_length() + 7) // 8, "little") for _, _, mask in self._told]
        return Memory(
            offsets,
            append_ms,
            np.fromiter((offset for offset, _, _ in self._told), np.int64, len(self._told)),
            b"".join(key for _, key, _ in self._told),
            np.fromiter((len(key) for _, key, _ in self._told), np.int64, len(self._told)),
            b"".join(masks),
            np.fromiter(map(len, masks), np.int64, len(masks)),
        )

    @classmethod
    def recall(cls, memory: Memory, records: int) -> RememberingWindow:
        """A window of N = `records` that was told all that `memory` holds."""
        window = cls(records)
        keys, masks = _parts(memory.keys, memory.key_bytes), _parts(memory.masks, memory.mask_bytes)
        told = deque(zip(memory.said.tolist(), keys, masks, strict=True))
        for offset, append_ms in zip(memory.offsets.tolist(), memory.append_ms.tolist(), strict=True):
            window.enter(offset, append_ms)
            while told and told[0][0] == offset:
                _, key, mask = told.popleft()
                window.add(key, int.from_bytes(mask, "little"))
        return window


def _columns(pairs: deque[tuple[int, int]]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    columns = np.array(pairs, dtype=np.int64).reshape(-1, 2)
    return columns[:, 0].copy(), columns[:, 1].copy()


def _parts(joined: bytes, lengths: NDArray[np.int64]) -> list[bytes]:
    ends = np.r_[0, np.cumsum(lengths)].tolist()
    return [joined[start:end] for start, end in pairwise(ends)]
