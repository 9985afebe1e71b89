"""Keyed hashes that stand for user and item ids in tokens and in Redis, so that neither holds a raw id."""

from __future__ import annotations

import os
from collections.abc import Iterable
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

USER_BYTES = 16
NOBODY = bytes(USER_BYTES)


def of_user(user_id: str, key: bytes) -> bytes:
    """A user's pseudonym: 16 bytes. `key` is at most 64 bytes and never changes while user state matters."""
    return blake2b(user_id.encode("utf-8", "surrogatepass"), digest_size=USER_BYTES, key=key, person=b"user").digest()


def of_item(item_id: str, key: bytes) -> int:
    """An item's pseudonym: 32 bits, enough to tell the items of a slate apart."""
    data = item_id.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(data, digest_size=4, key=key, person=b"item").digest(), "little")


def of_items(item_ids: Iterable[str], key: bytes) -> NDArray[np.uint32]:
    """Pseudonyms of a whole catalogue: uint32[J]."""
    return np.fromiter((of_item(item_id, key) for item_id in item_ids), dtype=np.uint32)


def of_session(session_id: str, key: bytes) -> bytes:
    """A session's pseudonym: 16 bytes, never the same as a user's."""
    data = session_id.encode("utf-8", "surrogatepass")
    return blake2b(data, digest_size=USER_BYTES, key=key, person=b"session").digest()


def by_chance() -> bytes:
    """16 random bytes, for somebody who gives neither."""
    return os.urandom(USER_BYTES)
