"""The reference: one single-threaded pass over a whole log, written from design.md and the papers.

It shares nothing with the fold but the decoding of tokens: no window to slide, no batches, no shards, plain integers.
"""

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from hashlib import blake2b
from typing import Any, NamedTuple, cast

import redis
from kafka.partitioner.default import murmur2

from bandit.manifest import Manifest
from service.feedback_log.base import FeedbackLog, Record
from service.token import AttributionToken, TokenError, decode

UNIT = 1 << 15
SKEW_MS = 60_000
Edge = tuple[str, str, int, int]  # namespace, version, cluster, slot
Sums = tuple[int, int, int]  # d, n, b
Place = tuple[int, int, int]  # partition, offset, index in the record
Repeat = tuple[int, int, int]  # partition, offset of the last copy before, offset of a duplicate


class Outcome(NamedTuple):
    """All that a log comes to."""

    statistics: dict[Edge, Sums]
    totals: dict[str, int]
    dead_letters: set[Place]
    seen: dict[bytes, dict[int, int]]
    answered: dict[bytes, dict[int, int]]


class Rules(NamedTuple):
    """What a log is read by."""

    keys: Mapping[int, bytes]
    pseudonym_key: bytes
    epoch: bytes
    partitions: int
    window: int
    manifest: Callable[[str], Manifest]


def single_pass(log: Mapping[int, Sequence[Record]], rules: Rules) -> Outcome:
    """Read all partitions from their first record to their last."""
    reading = SinglePass(rules)
    for partition, records in log.items():
        for record in records:
            reading.read(partition, record)
    return reading.outcome()


def whole_log(log: FeedbackLog) -> dict[int, list[Record]]:
    """Every record of a log, by partition."""
    return {partition: list(_records(log, partition)) for partition in range(log.partitions)}


def statistics_in(client: redis.Redis, prefix: str = "om") -> dict[Edge, Sums]:
    """What Redis holds of every edge that anything was ever said of."""
    found: dict[Edge, Sums] = {}
    for key in client.scan_iter(f"{prefix}:*:row:*", count=1000):
        namespace, version, _, cluster = key.decode().split(":row:")[1].split(":")
        row = cast(bytes, client.get(key))
        for slot in range(-(-len(row) // 24)):
            values = row[24 * slot : 24 * slot + 24].ljust(24, b"\0")
            d, n, b = (int.from_bytes(values[at : at + 8], "big") for at in (0, 8, 16))
            if d or n or b:
                found[namespace, version, int(cluster), slot] = d, n, b
    return found


def _records(log: FeedbackLog, partition: int) -> Iterator[Record]:
    first, end = log.bounds(partition)
    while first < end:
        records = log.read(partition, first, end)
        yield from records
        first = records[-1].offset + 1


class SinglePass:
    """The pass under way: what the records that were read so far come to. A partition is read in order."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.statistics: dict[Edge, list[int]] = {}
        self.totals: Counter[str] = Counter()
        self.dead_letters: set[Place] = set()
        self.repeats: list[Repeat] = []
        self.seen: dict[bytes, dict[int, int]] = {}
        self.answered: dict[bytes, dict[int, int]] = {}
        self._append_ms: dict[tuple[int, int], int] = {}  # of the record at (partition, offset)
        self._said: dict[object, list[int]] = {}  # partition and key → offsets of the records that held it

    def read(self, partition: int, record: Record) -> None:
        """Read one more record."""
        rules = self.rules
        self._append_ms[partition, record.offset] = record.append_ms
        for index, event in enumerate(_events(record.value)):
            read = _read(event, partition, record, rules)
            if isinstance(read, int):
                self.dead_letters.add((partition, record.offset, index))
                self.totals["dead_lettered"] += read
                continue
            token, positions, name, reward = read
            horizon = self._append_ms.get((partition, record.offset - rules.window))
            late = horizon is not None and token.issued_ms - SKEW_MS <= horizon
            if late:
                self.dead_letters.add((partition, record.offset, index))
            for position in positions:
                earlier = self._earlier((partition, token.request_id, position, name), record.offset)
                self.totals["late" if late else "folded" if earlier is None else "duplicates"] += 1
                if earlier is not None and not late:
                    self.repeats.append((partition, earlier, record.offset))
                if late or earlier is not None:
                    continue
                manifest = rules.manifest(token.version)
                self._add(token, position, reward, manifest)
                impression = (partition, token.request_id, position, None)
                if reward is not None and self._earlier(impression, record.offset) is None:
                    self.totals["implied"] += 1
                    self._add(token, position, None, manifest)

    def outcome(self) -> Outcome:
        """What it all comes to."""
        statistics = {edge: (d, n, b) for edge, (d, n, b) in self.statistics.items() if d or n or b}
        return Outcome(statistics, dict(+self.totals), self.dead_letters, self.seen, self.answered)

    def _earlier(self, key: object, offset: int) -> int | None:
        """Which of the last N records said so, or this one before; notes that this one does."""
        said = self._said.setdefault(key, [])
        found = next((other for other in reversed(said) if offset - self.rules.window <= other), None)
        said.append(offset)
        return found

    def _add(self, token: AttributionToken, position: int, reward: int | None, manifest: Manifest) -> None:
        """Eq. 8 for an impression of one place, eq. 9 for a reward."""
        table = manifest.examination_table
        examined = round(table[position] * UNIT) if position < len(table) else UNIT
        for cluster, weight, slot in zip(
            token.clusters.tolist(), token.weights.tolist(), token.slots[position].tolist(), strict=True
        ):
            if slot >= 0:
                sums = self.statistics.setdefault((token.namespace, token.version, cluster, slot), [0, 0, 0])
                if reward is None:
                    sums[0] += weight * weight
                    sums[1] += examined * weight
                else:
                    sums[2] += weight * reward
        if token.user != bytes(16) and reward != 0:
            items = (self.seen if reward is None else self.answered).setdefault(token.user, {})
            item = int(token.items[position])
            items[item] = max(items.get(item, 0), token.issued_ms)


def _events(value: bytes) -> list[Any]:
    try:
        read = json.loads(value)
    except ValueError:
        return [None]
    return read if isinstance(read, list) and read else [read]


def _read(
    event: Any, partition: int, record: Record, rules: Rules
) -> tuple[AttributionToken, list[int], str | None, int | None] | int:
    """Token, places, reward name and value of an event; of one that is not well-formed, for how many items it stood."""
    if not _looks_right(event):
        return 1
    impression, named = event["type"] == "impression", event.get("items")
    try:
        token = decode(event["attribution_token"], rules.keys)
    except TokenError:
        return len(set(named)) if named else 1
    if impression and named is None:
        places: list[int | None] = list(range(len(token.items)))
    else:
        shown = token.items.tolist()
        hashes = [_item(item, rules.pseudonym_key) for item in (set(named) if impression else [event["item_id"]])]
        places = [shown.index(found) if found in shown else None for found in hashes]
    name = None if impression else event.get("name", "click")
    table = rules.manifest(token.version).reward_table
    home = (murmur2(record.key) & 0x7FFFFFFF) % rules.partitions
    if (
        token.epoch != rules.epoch
        or record.key != token.recommendation_id.encode()
        or home != partition
        or not token.issued_ms - SKEW_MS <= record.append_ms <= token.issued_ms + 1000 * token.life_s
        or None in places
        or (name is not None and name not in table)
    ):
        return len(places)
    value = None if name is None else int(table[name] * event.get("value", 1.0) * UNIT)
    return token, cast(list[int], places), name, value


def _looks_right(event: Any) -> bool:
    if not isinstance(event, dict) or not isinstance(event.get("attribution_token"), str):
        return False
    if event.get("type") == "impression":
        named = event.get("items")
        fits = named is None or (isinstance(named, list) and named and all(isinstance(item, str) for item in named))
        return bool(fits) and event.keys() <= {"type", "attribution_token", "items"}
    return (
        event.get("type") == "reward"
        and isinstance(event.get("item_id"), str)
        and isinstance(event.get("value", 1.0), int | float)
        and 0 <= event.get("value", 1.0) <= 1
        and event.keys() <= {"type", "attribution_token", "item_id", "name", "value"}
    )


def _item(item_id: str, key: bytes) -> int:
    return int.from_bytes(blake2b(item_id.encode(), digest_size=4, key=key, person=b"item").digest(), "little")
