import asyncio
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from service.store import users as store_users
from service.store.connection import AsyncConnection, Cluster
from service.store.keys import Keys
from service.store.redis import Store
from service.store.users import MOST_WAITING, PATIENCE_S, Users, UsersUnavailable

KEYS = Keys("om", 4)
USER = bytes(range(16))
PATIENT_S = 30.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer may take long on a busy machine."""
    monkeypatch.setattr(store_users, "PATIENCE_S", PATIENT_S)


def ask(url: str, *, rewarded: bool = False) -> list[int]:
    async def asked() -> list[int]:
        users = Users(AsyncConnection(url), KEYS)
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
    server = process_of(store)

    async def asked() -> list[int]:
        users = Users(AsyncConnection(valkey), KEYS)
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


def test_questions_without_an_answer_do_not_pile_up(silent: str) -> None:
    async def asked() -> list[str]:
        users = Users(AsyncConnection(silent), KEYS)
        answers = await asyncio.gather(
            *(users.items(USER, rewarded=False) for _ in range(MOST_WAITING + 5)), return_exceptions=True
        )
        await users.close()
        return [str(answer) for answer in answers]

    answers = asyncio.run(asked())
    assert answers.count("too many wait for an answer") == 5
    assert answers.count("no answer in time") == MOST_WAITING


def test_a_question_goes_on_when_who_asked_is_cancelled(store: Store, valkey: str) -> None:
    """The connection is not given to anybody before its answer is read."""
    remember(store, [1], rewarded=False)

    async def asked() -> list[object]:
        users = Users(AsyncConnection(valkey), KEYS)
        caller = asyncio.create_task(users.items(USER, rewarded=False))
        await asyncio.sleep(0)
        (question,) = users._questions
        caller.cancel()
        ended = await asyncio.gather(caller, question, return_exceptions=True)
        await users.close()
        return list(ended)

    cancelled, found = asyncio.run(asked())
    assert isinstance(cancelled, asyncio.CancelledError)
    assert found == [(1).to_bytes(4, "little")]


def process_of(store: Store) -> int:
    """The process id of the server that holds the user."""
    client: Any = store.client
    if isinstance(client, Cluster):
        cluster: Any = client
        client = cluster.get_redis_connection(cluster.get_node_from_key(store.keys.user(USER, rewarded=False)))
    return int(client.info("server")["process_id"])
