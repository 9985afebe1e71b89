"""The duplicate window: what the last N offsets of one partition have said already."""

from __future__ import annotations

from collections import deque

from service.attribution import CLOCK_SKEW_MS


class Window:
    """A sliding memory of keys and append times, a pure function of the N records before the current one.

    Records are entered in offset order by `enter`; then each of the record's events asks `is_late` and `add`.
    """

    def __init__(self, records: int) -> None:
        """`records` is N, at least 1."""
        self._records = records
        self._oldest = 0
        self._offset = -1
        # Append time of the latest record that lies N or more before the current one.
        self._horizon_ms: int | None = None
        self._times: deque[tuple[int, int]] = deque()
        self._order: deque[tuple[int, bytes]] = deque()
        # Key → (offset, positions) pairs, oldest first; nearly always one pair.
        self._seen: dict[bytes, tuple[tuple[int, int], ...]] = {}

    def enter(self, offset: int, append_ms: int) -> None:
        """Move on to the record at `offset`, forgetting what lies more than N before it."""
        self._offset = offset
        self._oldest = offset - self._records
        while self._times and self._times[0][0] <= self._oldest:
            self._horizon_ms = self._times.popleft()[1]
        self._times.append((offset, append_ms))
        while self._order and self._order[0][0] < self._oldest:
            _, key = self._order.popleft()
            left = tuple(pair for pair in self._seen.get(key, ()) if pair[0] >= self._oldest)
            if left:
                self._seen[key] = left
            else:
                self._seen.pop(key, None)

    def is_late(self, issued_ms: int) -> bool:
        """Whether an earlier copy of an event on a token of that time could lie outside the window."""
        return self._horizon_ms is not None and issued_ms - CLOCK_SKEW_MS <= self._horizon_ms

    def add(self, key: bytes, positions: int) -> int:
        """Note that the current record speaks of `positions` (a bit mask); return those that nothing had named yet."""
        pairs = self._seen.get(key)
        if pairs is None:
            self._seen[key] = ((self._offset, positions),)
            self._order.append((self._offset, key))
            return positions
        named, kept = 0, []
        for offset, mask in pairs:
            if offset >= self._oldest:
                named |= mask
                if mask & ~positions:
                    kept.append((offset, mask & ~positions))
        self._seen[key] = (*kept, (self._offset, positions))
        self._order.append((self._offset, key))
        return positions & ~named
