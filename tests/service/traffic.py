"""Traffic over HTTP: a client that asks, reports, clicks and repeats itself, in a thread of its own."""

import random
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import Any

import httpx2

from service.feedback_log.base import FeedbackLog
from service.store.redis import Store
from tests.service.servers import until


class Traffic:
    """Notes what was accepted and what should not happen."""

    def __init__(self, url: str) -> None:
        self.accepted = 0
        self.resent = 0
        self.unserved: list[str] = []
        self.served: dict[str, int] = {}
        self._client = httpx2.Client(base_url=url, timeout=30)
        self._random = random.Random(0)
        self._said: list[dict[str, Any]] = []

    def visit(self) -> None:
        """Ask for a slate and report on it."""
        chance = self._random
        user = f"user {chance.randrange(30)}" if chance.random() < 0.5 else "user-0"
        asked = {"user_id": user, "limit": chance.randint(1, 20), "exclude_seen": chance.random() < 0.3}
        answer = self._client.post("/v1/recommendations", json=asked)
        if answer.status_code != 200:
            self.unserved.append(answer.text)
            return
        slate = answer.json()
        self.served[slate["version"]] = self.served.get(slate["version"], 0) + 1
        said = {"attribution_token": slate["attribution_token"]}
        items = [item["item_id"] for item in slate["items"]]
        events: list[dict[str, Any]] = [{"type": "impression"} | said] if chance.random() < 0.8 else []
        clicked = [item_id for item_id in items if chance.random() < 0.1]
        events += [{"type": "reward", "item_id": item_id, "value": chance.random()} | said for item_id in clicked]
        if self._said and chance.random() < 0.3:
            events += chance.sample(self._said, min(3, len(self._said)))
            self.resent += 1
        self._send(events)

    def _send(self, events: list[dict[str, Any]]) -> None:
        self._said = (self._said + events)[-200:]
        if events:
            told = self._client.post("/v1/events", json=events).json()["events"]
            self.accepted += sum(verdict["verdict"] == "accepted" for verdict in told)

    def wait_for_progress(self, accepted: int = 300) -> None:
        """Wait until this many more events were accepted."""
        goal = self.accepted + accepted
        until(lambda: self.accepted >= goal)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Visit over and over."""
        done = Event()

        def run() -> None:
            while not done.wait(0.005):
                self.visit()

        thread = Thread(target=run)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self._client.close()


def is_folded(store: Store, log: FeedbackLog) -> bool:
    """Whether every shard has folded all that was appended."""
    found = store.watermarks(log.epoch(), range(log.partitions))
    return all(min(offsets) == log.bounds(partition)[1] for partition, offsets in found.items())
