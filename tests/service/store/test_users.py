import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import redis.asyncio

from service.store import users as store_users
from service.store.keys import Keys
from service.store.redis import Store
from service.store.users import PATIENCE_S, Users, UsersUnavailable

KEYS = Keys("om", 4)
USER = bytes(range(16))
PATIENT_S = 30.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take long on a busy machine."""
    monkeypatch.setattr(store_users, "PATIENCE_S", PATIENT_S)


def ask(url: str, *, rewarded: bool = False) -> list[int]:
    async def asked() -> list[int]:
        users = Users(redis.asyncio.Redis.from_url(url), KEYS)
        try:
            found = await users.items(USER, rewarded=rewarded)
            assert found.dtype == np.uint32
            return list(map(int, found))
        finally:
            await users.close()

    return asyncio.run(asked())


def remember(store: Store, items: list[int], *, rewarded: bool) -> None:
    """As the fold leaves them; the newest is the last."""
    times = {item.to_bytes(4, "little"): float(at) for at, item in enumerate(items)}
    store.client.zadd(store.keys.user(USER, rewarded=rewarded), times)


@pytest.mark.usefixtures("patient")
def test_items_are_answered_oldest_first(store: Store, valkey: str) -> None:
    remember(store, [7, 2**32 - 1, 3], rewarded=False)
    remember(store, [2**31], rewarded=True)
    assert ask(valkey) == [7, 2**32 - 1, 3]
    assert ask(valkey, rewarded=True) == [2**31]


@pytest.mark.usefixtures("patient")
def test_of_a_new_user_nothing_is_known(store: Store, valkey: str) -> None:
    assert ask(valkey) == []


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[str]:
    """The address of a server that takes connections and never says a word."""
    path = tmp_path / "silent.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        yield f"unix://{path}"


def test_a_redis_that_does_not_answer_is_not_waited_for(silent: str) -> None:
    with pytest.raises(UsersUnavailable, match="no answer in time"):
        ask(silent)


def test_a_redis_that_is_away_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(UsersUnavailable, match=r"nobody\.sock"):
        ask(f"unix://{tmp_path}/nobody.sock")


@pytest.mark.usefixtures("patient")
def test_an_answer_that_is_an_error_is_told_of(store: Store, valkey: str) -> None:
    store.client.set(store.keys.user(USER, rewarded=False), b"not a sorted set")
    with pytest.raises(UsersUnavailable, match="WRONGTYPE"):
        ask(valkey)


@pytest.mark.usefixtures("patient")
def test_after_a_timeout_the_next_question_gets_its_own_answer(
    store: Store, valkey: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection whose answer nobody awaited must not give it to the next who asks."""
    remember(store, [1], rewarded=False)
    remember(store, [2], rewarded=True)
    server = int(store.client.info("server")["process_id"])

    async def asked() -> list[int]:
        users = Users(redis.asyncio.Redis.from_url(valkey, max_connections=1), KEYS)
        try:
            await users.items(USER, rewarded=False)
            os.kill(server, signal.SIGSTOP)
            monkeypatch.setattr(store_users, "PATIENCE_S", PATIENCE_S)
            with pytest.raises(UsersUnavailable):
                await users.items(USER, rewarded=False)
            os.kill(server, signal.SIGCONT)
            monkeypatch.setattr(store_users, "PATIENCE_S", PATIENT_S)
            return list(map(int, await users.items(USER, rewarded=True)))
        finally:
            os.kill(server, signal.SIGCONT)
            await users.close()

    assert asyncio.run(asked()) == [2]
