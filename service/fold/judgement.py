"""Judgement: which events of a partition count. A pure function of the log, the token keys and the manifests.

An event is well-formed if its token is ours, of this epoch and this record's request, its append time lies in
[issued − 60 s, expiry], its items were in the slate and its reward is in the table. It counts if it is well-formed, not
late, and nothing with its key lies in the previous N offsets or earlier in its own record. A counting reward whose
impression nobody reported implies it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from operator import attrgetter
from typing import NamedTuple

import orjson
from pydantic import ValidationError

from bandit.manifest import Manifest
from service import token as tokens
from service.attribution import Attribution, Reason, Refused, attribute, check_time
from service.events import EVENT, EVENTS, Impression, Reward
from service.feedback_log.base import DeadLetter, Record, partition_of
from service.fold.window import Window
from service.token import OpenToken, TokenError

CACHED_TOKENS = 4096
# What TypeAdapter.validate_json calls: a record holds one event nearly always.
READ_EVENT = EVENT.validator.validate_json


class Credit(NamedTuple):
    """An event, or the part of it, that counts.

    `positions` is a bit mask over the slate; `reward` is in units of 2⁻¹⁵, None for an impression.
    """

    offset: int
    append_ms: int
    token: OpenToken
    positions: int
    reward: int | None


@dataclass(slots=True)
class Tally:
    """What became of one record, counted per (event, item); an implied impression is counted on top."""

    offset: int
    folded: int = 0
    duplicates: int = 0
    late: int = 0
    dead_lettered: int = 0
    implied: int = 0


def totals(tallies: Sequence[Tally], start: int, stop: int) -> dict[str, int]:
    """What became of the records with start ≤ offset < stop, by outcome; nothing of what did not happen."""
    counted = [_counts(tally) for tally in tallies if start <= tally.offset < stop]
    sums = [sum(column) for column in zip(*counted, strict=True)]
    return {outcome: count for outcome, count in zip(OUTCOMES, sums, strict=False) if count}


OUTCOMES = [field.name for field in fields(Tally) if field.name != "offset"]
_counts = attrgetter(*OUTCOMES)


class Judgement(NamedTuple):
    """All that a batch of records comes to."""

    credits: list[Credit]
    dead_letters: list[DeadLetter]
    tallies: list[Tally]


class Judge:
    """Knows the keys, the epoch and the manifests; holds no state of any partition."""

    def __init__(
        self,
        keys: Mapping[int, bytes],
        pseudonym_key: bytes,
        epoch: bytes,
        partitions: int,
        manifest: Callable[[str], Manifest],
    ) -> None:
        """`manifest` answers a version's manifest, waiting for it if it must; what it raises passes through."""
        self._pseudonym_key = pseudonym_key
        self._epoch = epoch
        self._manifest = manifest

        @lru_cache(CACHED_TOKENS)
        def open_token(text: str) -> tuple[OpenToken, bytes, int]:
            token = tokens.open_token(text, keys)
            key = token.recommendation_id.encode()
            return token, key, partition_of(key, partitions)

        self._open = open_token

    def judge(self, partition: int, records: Sequence[Record], window: Window) -> Judgement:
        """Judge a partition's records in offset order, moving its window along."""
        judgement = Judgement([], [], [])
        for record in records:
            window.enter(record.offset, record.append_ms)
            tally = Tally(record.offset)
            judgement.tallies.append(tally)
            for index, event in enumerate(parse(record.value)):
                try:
                    self._judge_event(event, partition, record, window, tally, judgement.credits)
                except Refused as refused:
                    judgement.dead_letters.append(_letter(partition, record, index, refused))
        return judgement

    def _judge_event(
        self,
        event: Impression | Reward | Refused,
        partition: int,
        record: Record,
        window: Window,
        tally: Tally,
        credited: list[Credit],
    ) -> None:
        """Enter one event in window, tally and credits. Raises Refused if it cannot count."""
        try:
            token, said = self._attribute(event, partition, record)
        except Refused:
            tally.dead_lettered += self._size(event)
            raise
        total = said.positions.bit_count()
        fresh = window.add(said.key, said.positions)
        if window.is_late(token.issued_ms):
            tally.late += total
            raise Refused(Reason.LATE)
        counted = fresh.bit_count()
        tally.folded += counted
        tally.duplicates += total - counted
        if not fresh:
            return
        credited.append(Credit(record.offset, record.append_ms, token, fresh, said.reward))
        if said.reward is not None and (implied := window.add(said.impression_key, fresh)):
            tally.implied += implied.bit_count()
            credited.append(Credit(record.offset, record.append_ms, token, implied, None))

    def _attribute(
        self, event: Impression | Reward | Refused, partition: int, record: Record
    ) -> tuple[OpenToken, Attribution]:
        if isinstance(event, Refused):
            raise event
        try:
            token, key, home = self._open(event.attribution_token)
        except TokenError as error:
            raise Refused(Reason.FORGED, str(error)) from error
        if token.epoch != self._epoch:
            raise Refused(Reason.OTHER_EPOCH)
        if key != record.key or home != partition:
            raise Refused(Reason.MISPLACED)
        check_time(token, record.append_ms)
        return token, attribute(event, token, self._manifest(token.version), self._pseudonym_key)

    def _size(self, event: Impression | Reward | Refused) -> int:
        """For how many items a refused event stands, as far as that can be told."""
        if not isinstance(event, Impression):
            return 1
        if event.items is not None:
            return len(set(event.items))
        try:
            token, _, _ = self._open(event.attribution_token)
        except TokenError:
            return 1
        return token.size


def parse(value: bytes) -> list[Impression | Reward | Refused]:
    """A record's events; what is not an event becomes its refusal, in its place."""
    try:
        if value[:1] != b"[":
            return [READ_EVENT(value)]
        if events := EVENTS.validate_json(value):
            return list(events)
        whole = Refused(Reason.NOT_AN_EVENT, "an empty list")
    except ValidationError as error:
        whole = Refused(Reason.NOT_AN_EVENT, _explain(error))
    try:
        parts = orjson.loads(value)
    except orjson.JSONDecodeError:
        return [whole]
    return [_parse_part(part) for part in parts] if isinstance(parts, list) and parts else [whole]


def _letter(partition: int, record: Record, event: int, why: Refused) -> DeadLetter:
    return DeadLetter(partition, record.offset, event, why.reason.value, str(why), record.key, record.value)


def _parse_part(part: object) -> Impression | Reward | Refused:
    try:
        return EVENT.validate_python(part)
    except ValidationError as error:
        return Refused(Reason.NOT_AN_EVENT, _explain(error))


def _explain(error: ValidationError) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    return f"{'.'.join(map(str, first['loc']))}: {first['msg']}".lstrip(": ")
