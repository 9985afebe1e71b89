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
        """One record, of one kind."""
        chance, now_ms = self._chance, time.time_ns() // 1_000_000
        kind = chance.random()
        # Servers' clocks run ahead of the log's, by less than they may: the window is shorter than it is long.
        issued_ms = now_ms + 1000 * chance.randint(-5, 55)
        key_id, home = 1, None
        if kind < 0.02:
            key_id = 9  # forged
        elif kind < 0.04:
            issued_ms = now_ms - 1000 * (LIFE_S + 5)  # expired
        elif kind < 0.05:
            issued_ms = now_ms + 90_000  # too early
        elif kind < 0.09:
            issued_ms = now_ms - 1000 * chance.randint(45, 200)  # late, once the window is full
        elif kind < 0.10:
            home = chance.randrange(self._partitions)  # misplaced, nearly always
        slate = self._world.slate(self.version, issued_ms, key_id)
        key = slate.request.encode()
        if 0.10 <= kind < 0.13:
            self._append(key, chance.choice(SENSELESS), 1)
            return
        events = self._events(slate)
        value = orjson.dumps(events if len(events) > 1 else events[0])
        self._append(key, value, len(events), home)
        if 0.13 <= kind < 0.18:
            self._append(key, value, len(events))
        elif 0.18 <= kind < 0.22:
            self._repeat(chance.uniform(0, NEAR_S), key, value, len(events))
        elif 0.22 <= kind < 0.34:
            self._repeat(chance.uniform(0, FAR_S), key, value, len(events))
        elif kind < 0.5:  # the answer comes after the impression, or before it
            answer = orjson.dumps(self._reward(slate))
            self._repeat(chance.uniform(0, NEAR_S), key, answer, 1)

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
