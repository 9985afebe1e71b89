"""What single users saw and answered, as requests ask for it."""

from __future__ import annotations

import asyncio
from typing import cast

import numpy as np
import redis
from numpy.typing import NDArray

from service.store.connection import AsyncConnection, StoreError
from service.store.keys import Keys

PATIENCE_S = 0.05
MOST_WAITING = 64


class UsersUnavailable(Exception):  # noqa: N818 - names what happened
    """Redis did not answer in time."""


class Users:
    """Reads of users' own state, bounded in time: a slate does not wait for a Redis that is away.

    A question, once begun, is never cancelled: who gives up leaves it to end by itself. So a connection goes back among
    the free ones with its answer read, or closed, and can never give one user's answer to another.
    """

    def __init__(self, connection: AsyncConnection, keys: Keys) -> None:
        self._connection = connection
        self._keys = keys
        self._questions: set[asyncio.Task[list[bytes]]] = set()

    async def items(self, user: bytes, *, rewarded: bool) -> NDArray[np.uint32]:
        """Pseudonyms (uint32[n]) of the newest items that a user saw, or answered, oldest first.

        Raises:
            UsersUnavailable: no answer within 50 ms, or many wait for one already.
        """
        if len(self._questions) >= MOST_WAITING:
            raise UsersUnavailable("too many wait for an answer")
        question = asyncio.create_task(self._ask(self._keys.user(user, rewarded=rewarded)))
        self._questions.add(question)
        question.add_done_callback(self._end)
        try:
            async with asyncio.timeout(PATIENCE_S):
                found = await asyncio.shield(question)
        except (redis.RedisError, StoreError, TimeoutError) as error:
            raise UsersUnavailable(str(error) or "no answer in time") from error
        return np.frombuffer(b"".join(found), dtype="<u4")

    async def close(self) -> None:
        """Let the connections go, also those that wait for an answer."""
        for question in self._questions:
            question.cancel()
        await asyncio.gather(*self._questions, return_exceptions=True)
        await self._connection.close()
        await asyncio.sleep(0)  # sockets of questions that were cancelled close in the loop's next turn

    async def _ask(self, key: str) -> list[bytes]:
        return cast(list[bytes], await self._connection.ask("ZRANGE", key, 0, -1))

    def _end(self, question: asyncio.Task[list[bytes]]) -> None:
        self._questions.discard(question)
        if not question.cancelled():
            question.exception()  # told to whoever still waits
