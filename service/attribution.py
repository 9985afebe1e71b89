"""Attribution: what an event says of its slate, or why it says nothing. The API and the fold ask the same question."""

from __future__ import annotations

from enum import StrEnum
from functools import lru_cache
from hashlib import blake2b
from typing import NamedTuple

from bandit.manifest import Manifest
from service import pseudonym
from service.events import Impression, Reward
from service.token import AttributionToken, OpenToken

CLOCK_SKEW_MS = 60_000
CACHED_NAMES = 256
CACHED_ITEMS = 1 << 16
REQUEST_BYTES = 16
Slate = AttributionToken | OpenToken


class Reason(StrEnum):
    """Why an event cannot count."""

    NOT_AN_EVENT = "not an event"
    FORGED = "token forged, altered or signed with an unknown key"
    OTHER_EPOCH = "token of another log epoch"
    MISPLACED = "record key or partition is not the token's"
    TOO_EARLY = "appended before its token was issued"
    EXPIRED = "token expired"
    NOT_IN_SLATE = "item was not in the slate"
    UNKNOWN_REWARD = "reward name is not in the bundle's reward table"
    LATE = "an earlier copy could lie outside the duplicate window"


class Refused(Exception):  # noqa: N818 - the event is refused, the program is fine
    """An event that cannot count."""

    def __init__(self, reason: Reason, detail: str = "") -> None:
        super().__init__(detail or reason.value)
        self.reason = reason


class Attribution(NamedTuple):
    """What a well-formed event says.

    Attributes:
        positions: bit p is set when it speaks of the slate's item p.
        reward: the reward in units of 2⁻¹⁵; None for an impression.
        key: request and kind, at most 32 bytes; with a position it is what may count once.
    """

    positions: int
    reward: int | None
    key: bytes

    @property
    def impression_key(self) -> bytes:
        """The key under which an impression of the same items counts."""
        return self.key[:REQUEST_BYTES]


def attribute(event: Impression | Reward, token: Slate, manifest: Manifest, pseudonym_key: bytes) -> Attribution:
    """Read an event against its slate. Raises Refused: NOT_IN_SLATE or UNKNOWN_REWARD."""
    if isinstance(event, Impression):
        if event.items is None:
            return Attribution((1 << token.size) - 1, None, token.request_id)
        positions = 0
        for item_id in event.items:
            positions |= 1 << _position(item_id, token, pseudonym_key)
        return Attribution(positions, None, token.request_id)
    if event.name not in manifest.reward_table:
        raise Refused(
            Reason.UNKNOWN_REWARD, f"no reward {event.name!r}; the table has {', '.join(manifest.reward_table)}"
        )
    return Attribution(
        1 << _position(event.item_id, token, pseudonym_key),
        manifest.reward_units(event.name, event.value),
        token.request_id + _digest(event.name),
    )


def check_time(token: Slate, append_ms: int) -> None:
    """Append times must lie in [issued − 60 s, expiry]. Raises Refused: TOO_EARLY or EXPIRED."""
    if append_ms < token.issued_ms - CLOCK_SKEW_MS:
        raise Refused(Reason.TOO_EARLY)
    if append_ms > token.expires_ms:
        raise Refused(Reason.EXPIRED)


def _position(item_id: str, token: Slate, pseudonym_key: bytes) -> int:
    position = token.position_of(_pseudonym(item_id, pseudonym_key))
    if position is None:
        raise Refused(Reason.NOT_IN_SLATE, f"item {item_id!r} was not in the slate")
    return position


# Users answer few items again and again.
_pseudonym = lru_cache(CACHED_ITEMS)(pseudonym.of_item)


@lru_cache(CACHED_NAMES)
def _digest(name: str) -> bytes:
    return blake2b(name.encode(), digest_size=8).digest()
