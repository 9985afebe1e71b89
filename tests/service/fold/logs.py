"""Feedback logs for tests of the fold: records of signed events, and the manifest by which they are read."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from bandit.manifest import Counts, Manifest
from service.feedback_log.base import Record, partition_of
from service.fold.judgement import Judge
from service.token import AttributionToken, encode
from tests.service.tokens import EPOCH, ISSUED_MS, ITEMS, KEYS, PSEUDONYM_KEY, VERSION, a_token

PARTITIONS = 4
NOW_MS = ISSUED_MS + 1000
MANIFEST = Manifest(
    version=VERSION,
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    counts=Counts(users=1, items=3, clusters=8, edges=9, clusters_per_user=3),
    temperature=1,
    reward_table={"click": 0.25, "watch": 0.75},
    examination_table=[1.0, 0.5],
)


def partition(token: AttributionToken) -> int:
    """Where a token's records belong."""
    return partition_of(token.recommendation_id.encode(), PARTITIONS)


def impression(token: AttributionToken | None = None, **changes: Any) -> dict[str, Any]:
    """An event that says that a slate was shown."""
    return {"type": "impression", "attribution_token": encode(token or a_token(), 1, KEYS[1])} | changes


def reward(token: AttributionToken | None = None, **changes: Any) -> dict[str, Any]:
    """An event that says that an item, by default the first, was answered."""
    text = encode(token or a_token(), 1, KEYS[1])
    return {"type": "reward", "attribution_token": text, "item_id": ITEMS[0]} | changes


def record(events: object, offset: int = 0, append_ms: int = NOW_MS, token: AttributionToken | None = None) -> Record:
    """A record under its token's key, as the API writes it; bytes are taken as they are."""
    key = (token or a_token()).recommendation_id.encode()
    return Record(offset, append_ms, key, events if isinstance(events, bytes) else orjson.dumps(events))


def log(*values: object) -> Sequence[Record]:
    """One record a value, at offsets from 0."""
    return [record(events, offset) for offset, events in enumerate(values)]


def a_judge(**changes: Any) -> Judge:
    """A judge of the tokens of `a_token`."""
    facts: dict[str, Any] = {
        "keys": KEYS,
        "pseudonym_key": PSEUDONYM_KEY,
        "epoch": EPOCH,
        "partitions": PARTITIONS,
        "manifest": lambda version: {VERSION: MANIFEST}[version],
    }
    return Judge(**facts | changes)
