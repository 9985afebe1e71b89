"""What single users saw and answered, as requests ask for it."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import redis
import redis.asyncio
from numpy.typing import NDArray

from service.store.keys import Keys

PATIENCE_S = 0.05


class UsersUnavailable(Exception):  # noqa: N818 - names what happened
    """Redis did not answer in time."""


class Users:
    """Reads of users' own state, bounded in time: a slate does not wait for a Redis that is away."""

    def __init__(self, client: redis.asyncio.Redis, keys: Keys) -> None:
        self._client = client
        self._keys = keys

    async def items(self, user: bytes, *, rewarded: bool) -> NDArray[np.uint32]:
        """Pseudonyms (uint32[n]) of the newest items that a user saw, or answered, oldest first.

        Raises:
            UsersUnavailable: no answer within 50 ms.
        """
        key = self._keys.user(user, rewarded=rewarded)
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = cast(list[bytes], await self._client.zrange(key, 0, -1))
        except (redis.RedisError, TimeoutError) as error:
            raise UsersUnavailable(str(error) or "no answer in time") from error
        return np.frombuffer(b"".join(found), dtype="<u4")

    async def close(self) -> None:
        """Let the connections go."""
        await self._client.aclose()
