"""Clients that hang up while Redis is slow: nobody is ever answered with what another user saw."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import orjson
import uvicorn

from bandit.bundle import Bundle
from service import pseudonym
from service.app import create_app, direct
from service.settings import Settings
from service.store.redis import Store
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.servers import until
from tests.service.slow_proxy import SlowProxy

USERS = 24
SEEN = 5
# Some answers come in time, some do not: a request waits 50 ms for what its user saw.
LATE_S = 0.09
ENOUGH = 150
Answer = tuple[int, list[str], list[str]]


def test_nobody_gets_what_another_user_saw(make_loop: MakeLoop, store: Store, valkey: str) -> None:
    bundle = small_bundle()
    seen = {f"somebody {number}": bundle.item_ids[number : number + SEEN] for number in range(USERS)}
    loop = make_loop(bundle)
    for user_id, item_ids in seen.items():
        remember(store, loop.settings, user_id, item_ids)
    with SlowProxy(valkey, LATE_S) as slow, served(loop.settings, slow.url) as port:
        answers = asyncio.run(ask_and_hang_up(port, bundle))
    told = 0
    for number, item_ids, degraded in answers:
        left_out = set(bundle.item_ids) - set(item_ids)
        if degraded:
            assert left_out == set()
        else:
            assert left_out == set(seen[f"somebody {number}"])
            told += 1
    assert told >= ENOUGH
    assert len(answers) > told


def remember(store: Store, settings: Settings, user_id: str, item_ids: list[str]) -> None:
    """As the fold does it when these items were shown to a user."""
    user = pseudonym.of_user(user_id, settings.pseudonym_bytes)
    items = pseudonym.of_items(item_ids, settings.pseudonym_bytes)
    store.client.zadd(store.keys.user(user, rewarded=False), {item.tobytes(): 1.0 for item in items})


@contextmanager
def served(settings: Settings, redis_url: str) -> Iterator[int]:
    """The API on a loopback port, as the real server runs it."""
    app = create_app(settings, redis_url)
    server = uvicorn.Server(uvicorn.Config(direct(app, settings), host="127.0.0.1", port=0, log_config=None))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        until(lambda: server.started)
        until(lambda: app.state.serving.recommender is not None)
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        thread.join()


async def ask_and_hang_up(port: int, bundle: Bundle) -> list[Answer]:
    """Many users ask at once; of each two one hangs up before the answer. The answers that came."""
    answers: list[Answer] = []

    async def visit(number: int, *, hang_up: bool) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        asked: dict[str, Any] = {"user_id": f"somebody {number}", "limit": len(bundle.item_ids), "exclude_seen": True}
        body = orjson.dumps(asked)
        head = (
            f"POST /v1/recommendations HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        if hang_up:
            writer.transport.abort()
        else:
            status, _, said = (await reader.read()).partition(b"\r\n\r\n")
            assert status.startswith(b"HTTP/1.1 200"), said
            slate = orjson.loads(said)
            answers.append((number, [item["item_id"] for item in slate["items"]], slate["degraded"]))
        writer.close()
        with suppress(OSError):
            await writer.wait_closed()

    async def until_enough() -> None:
        while sum(not degraded for _, _, degraded in answers) < ENOUGH:
            await asyncio.gather(*(visit(n, hang_up=hang_up) for n in range(USERS) for hang_up in (False, True)))

    async with asyncio.timeout(90):
        await until_enough()
    return answers
