"""Producers: users' feedback and everything else that ends up in a feedback log, at a steady rate."""

import heapq
import random
import time
from collections.abc import Callable
from threading import Event, Lock, Thread
from typing import Any

import httpx2
import orjson

from service.feedback_log.base import partition_of
from tests.chaos.world import LIFE_S, Slate, World

Send = Callable[[bytes, bytes, int], None]  # key, value, partition
NEAR_S, FAR_S = 2.0, 60.0
UNKNOWN_KEY = 9
# Servers' clocks may run ahead of the log's by less than a minute: these tokens live through most of the window.
AHEAD_S = -5, 55
# What a record is, or when it is said again → how often in a hundred, and when its token was issued, in s from now.
KINDS = {
    "plain": (50, AHEAD_S),
    "at once": (5, AHEAD_S),
    "soon": (4, AHEAD_S),
    "long after": (12, AHEAD_S),
    "answer": (16, AHEAD_S),
    "old": (4, (-200, -45)),  # late, once the window is full
    "expired": (2, (-2 * LIFE_S, -LIFE_S - 5)),
    "too early": (1, (70, 200)),
    "forged": (2, AHEAD_S),
    "misplaced": (1, AHEAD_S),
    "senseless": (3, AHEAD_S),
}
SENSELESS = (b"\xff{", b"[]", b"[[1]]", b"7", b'{"type": "impression"}', b'["odd", {"type": "reward"}]')


class Producers:
    """One thread that writes straight into the log, one that asks for slates over HTTP and reports on them."""

    def __init__(self, world: World, send: Send, url: str, partitions: int, rate: float, seed: int) -> None:
        """`rate` is records a second, straight into the log."""
        self.version = ""
        self.records = 0
        self.events = 0
        self.over_http = 0
        self._world, self._send, self._url, self._rate = world, send, url, rate
        self._partitions = partitions
        self._chance = random.Random(seed)
        self._later: list[tuple[float, int, bytes, bytes, int]] = []  # due, number, key, value, events
        self._lock = Lock()
        self._done = Event()
        self.failures: list[str] = []
        self._threads = [Thread(target=self._run, args=(work,), daemon=True) for work in (self._write, self._visit)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self._done.set()
        for thread in self._threads:
            thread.join()

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.failures.append(repr(error))
            raise

    def _write(self) -> None:
        started, number = time.monotonic(), 0
        while not self._done.is_set():
            while number < (time.monotonic() - started) * self._rate:
                number += 1
                self._say()
            with self._lock:
                due = []
                while self._later and self._later[0][0] <= time.monotonic():
                    due.append(heapq.heappop(self._later))
            for _, _, key, value, events in due:
                self._append(key, value, events)
            self._done.wait(0.01)

    def _say(self) -> None:
        """One record of one kind, and what follows from it."""
        chance = self._chance
        kind = chance.choices(list(KINDS), [share for share, _ in KINDS.values()])[0]
        issued_ms = time.time_ns() // 1_000_000 + 1000 * chance.randint(*KINDS[kind][1])
        slate = self._world.slate(self.version, issued_ms, UNKNOWN_KEY if kind == "forged" else 1)
        key, events = slate.request.encode(), self._events(slate)
        value = orjson.dumps(events if len(events) > 1 else events[0])
        if kind == "senseless":
            value, events = chance.choice(SENSELESS), events[:1]
        home = chance.randrange(self._partitions) if kind == "misplaced" else None
        self._append(key, value, len(events), home)
        if kind == "at once":
            self._append(key, value, len(events))
        elif kind == "soon":
            self._repeat(chance.uniform(0, NEAR_S), key, value, len(events))
        elif kind == "long after":
            self._repeat(chance.uniform(0, FAR_S), key, value, len(events))
        elif kind == "answer":
            self._repeat(chance.uniform(0, NEAR_S), key, orjson.dumps(self._reward(slate)), 1)

    def _events(self, slate: Slate) -> list[dict[str, Any]]:
        chance = self._chance
        events: list[dict[str, Any]] = [{"type": "impression", "attribution_token": slate.token}]
        if chance.random() < 0.3:
            events[0]["items"] = chance.sample(slate.items, chance.randint(1, len(slate.items)))
        events += [self._reward(slate) for _ in range(chance.choice((1, 2, 2, 3)))]
        # Who reports a reward alone implies that it was shown.
        return events if chance.random() < 0.85 else events[1:]

    def _reward(self, slate: Slate) -> dict[str, Any]:
        chance = self._chance
        reward = {"type": "reward", "attribution_token": slate.token, "item_id": chance.choice(slate.items)}
        return reward | {"name": chance.choice(("click", "watch")), "value": chance.choice((1.0, 0.5, chance.random()))}

    def _append(self, key: bytes, value: bytes, events: int, home: int | None = None) -> None:
        self._send(key, value, partition_of(key, self._partitions) if home is None else home)
        self.records += 1
        self.events += events

    def _repeat(self, after_s: float, key: bytes, value: bytes, events: int) -> None:
        with self._lock:
            heapq.heappush(self._later, (time.monotonic() + after_s, self.records, key, value, events))

    def _visit(self) -> None:
        """Ask for a slate, report on it; what the service does not take is sent again, and some of the rest too."""
        chance = random.Random(self._chance.random())
        with httpx2.Client(base_url=self._url, timeout=10) as client:
            while not self._done.wait(0.04):
                try:
                    asked = {"user_id": f"user-{chance.randrange(300)}", "limit": chance.randint(1, 10)}
                    slate = client.post("/v1/recommendations", json=asked).json()
                    if "attribution_token" not in slate:
                        continue
                    said = {"attribution_token": slate["attribution_token"]}
                    events = [{"type": "impression"} | said]
                    clicked = [item["item_id"] for item in slate["items"] if chance.random() < 0.3]
                    events += [{"type": "reward", "item_id": item} | said for item in clicked]
                    self._report(client, events)
                    if chance.random() < 0.1:
                        self._report(client, events)
                    if chance.random() < 0.2:
                        key = slate["recommendation_id"].encode()
                        self._repeat(chance.uniform(0, FAR_S), key, orjson.dumps(events), len(events))
                except (httpx2.TransportError, orjson.JSONDecodeError):
                    continue

    def _report(self, client: httpx2.Client, events: list[dict[str, Any]]) -> None:
        for _ in range(3):
            answer = client.post("/v1/events", json=events)
            if answer.status_code == 202:
                self.over_http += len(events)
                return
            if self._done.wait(0.2):
                return
