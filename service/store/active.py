"""Which bundle operators asked for: numbered changes in one hash, of which the last is in force.

A change is added under the number after the one it was decided on, and only if that number is free. So two operators
cannot overwrite each other unseen, and all that was ever active stays known.
"""

from __future__ import annotations

import time
import uuid
from typing import cast

from pydantic import BaseModel, ConfigDict, Field

from service.store.redis import Store


class Change(BaseModel):
    """What was asked for, when, and what was active until then."""

    model_config = ConfigDict(frozen=True)

    revision: int = Field(ge=0, description="its number; 0: nobody asked for anything yet")
    version: str | None = Field(None, description="the bundle that is pinned; null: whatever is newest")
    instead_of: str | None = Field(None, description="what was served when this was asked for")
    rollback: bool = False
    at_ms: int = 0
    id: str = ""


NOTHING = Change(revision=0)


class Active:
    """The changes under one prefix. Every method raises redis.RedisError or StoreError where Redis is away."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = store.keys.active()

    def current(self) -> Change:
        """What is in force."""
        client = self._store.client
        # Changes are never altered, and there are no gaps.
        last = client.hlen(self._key)
        return Change.model_validate_json(cast(bytes, client.hget(self._key, str(last)))) if last else NOTHING

    def history(self) -> list[Change]:
        """All changes, newest first."""
        changes = map(Change.model_validate_json, cast(list[bytes], self._store.client.hvals(self._key)))
        return sorted(changes, key=lambda change: -change.revision)

    def change(self, before: Change, version: str | None, instead_of: str | None, *, rollback: bool) -> Change | None:
        """Ask for a version, or for the newest; None if somebody else was faster than `before`."""
        asked = Change(
            revision=before.revision + 1,
            version=version,
            instead_of=instead_of,
            rollback=rollback,
            at_ms=time.time_ns() // 1_000_000,
            id=uuid.uuid4().hex,
        )
        field = str(asked.revision)
        # Unlike what the log holds, nothing would tell of it again: it must be on disk before anybody hears of it.
        if self._store.write_through(self._key, "HSETNX", self._key, field, asked.model_dump_json()):
            return asked
        # The client may have sent it twice, where the first answer was lost.
        found = Change.model_validate_json(cast(bytes, self._store.client.hget(self._key, field)))
        return asked if found == asked else None

    def close(self) -> None:
        """Let the connections go."""
        self._store.close()
