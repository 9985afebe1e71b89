"""A realistic mix of requests for Locust: people who browse, click, come back late, and programs that look things up.

`make loadtest` runs it against a local service; by hand: `locust -f loadtest/locustfile.py --host http://…`. Ids of
users come from the newest bundle under BUNDLES; without one, everybody is unknown.
"""

from __future__ import annotations

import os
import random
import uuid
from collections import deque
from typing import Any
from urllib.parse import quote

import fsspec
import gevent
import pyarrow.parquet as pq
from locust import FastHttpUser, between, task

from bandit import bundle as bundles

ROOT = os.environ.get("BUNDLES", "bundles")
LIMIT = 20
CLICK_SHARE = 0.05
RESEND_SHARE = 0.02
KEPT_SLATES = 20

Slate = dict[str, Any]


def _ids(column: str, file: str) -> list[str]:
    """Ids from the newest bundle; none if there is no bundle to read."""
    try:
        with fsspec.open(f"{ROOT.rstrip('/')}/{bundles.versions(ROOT)[-1]}/{file}") as opened:
            return pq.read_table(opened, columns=[column])[column].to_pylist()  # type: ignore[no-any-return]
    except (OSError, IndexError):
        return []


USER_IDS = _ids("user_id", bundles.USERS)


class Person(FastHttpUser):
    """Somebody with an account (or without one), who looks at slates and sometimes clicks."""

    host = os.environ.get("LOADTEST_HOST", "http://127.0.0.1:8000")
    wait_time = between(0.5, 2.0)

    def on_start(self) -> None:
        """Who this is."""
        self.user_id = random.choice(USER_IDS) if USER_IDS else str(uuid.uuid4())
        self.slates: deque[Slate] = deque(maxlen=KEPT_SLATES)

    @task(12)
    def browse(self) -> None:
        """A known user looks at a slate."""
        self._look(self._recommend("known", user_id=self.user_id))

    @task(4)
    def newcomer(self) -> None:
        """Somebody without an account."""
        self._look(self._recommend("unknown", session_id=str(uuid.uuid4())))

    @task(3)
    def something_new(self) -> None:
        """A known user wants what they have not seen."""
        self._look(self._recommend("exclude_seen", user_id=self.user_id, exclude_seen=True))

    @task(1)
    def leave_out(self) -> None:
        """The page shows some items already."""
        shown = [item["item_id"] for slate in self.slates for item in slate["items"]][:50]
        slate = self._recommend("exclude_item_ids", user_id=self.user_id, exclude_item_ids=shown)
        self._look(slate)

    @task(1)
    def why(self) -> None:
        """Somebody asks why."""
        self._recommend("explain", user_id=self.user_id, explain=True)

    @task(1)
    def late_click(self) -> None:
        """A click on a slate from some time ago."""
        if self.slates:
            slate = random.choice(self.slates)
            self._send("late reward", [_reward(slate, random.choice(slate["items"]))])

    @task(1)
    def look_up(self) -> None:
        """A program looks up an item of a slate."""
        if self.slates:
            item_id = random.choice(self.slates[-1]["items"])["item_id"]
            view = random.choice(["basic", "basic", "state"])
            path = f"/v1/items/{quote(item_id, safe='')}?view={view}"
            with self.client.get(path, name=f"/v1/items/… [{view}]", catch_response=True) as answer:
                if answer.status_code != 200 or answer.json()["item_id"] != item_id:
                    answer.failure(f"{answer.status_code} for item {item_id!r}")

    def _recommend(self, name: str, **asked: Any) -> Slate | None:
        """Ask for a slate and check it."""
        body = {"limit": LIMIT, **asked}
        with self.client.post(
            "/v1/recommendations", json=body, name=f"/v1/recommendations [{name}]", catch_response=True
        ) as answer:
            if answer.status_code != 200:
                answer.failure(f"{answer.status_code}: {answer.text}")
                return None
            slate: Slate = answer.json()
            ids = [item["item_id"] for item in slate["items"]]
            if len(set(ids)) != LIMIT:
                answer.failure(f"{len(set(ids))} different items in {len(ids)}, not {LIMIT}")
            elif excluded := set(ids) & set(asked.get("exclude_item_ids", ())):
                answer.failure(f"excluded items in the slate: {sorted(excluded)}")
            elif asked.get("explain") and any(item.get("explanation") is None for item in slate["items"]):
                answer.failure("an item without its explanation")
        return slate

    def _look(self, slate: Slate | None) -> None:
        """The slate is shown; some items are clicked, after a look at them."""
        if slate is None:
            return
        self.slates.append(slate)
        self._send("impression", [{"type": "impression", "attribution_token": slate["attribution_token"]}])
        for item in slate["items"]:
            if random.random() < CLICK_SHARE:
                gevent.sleep(random.uniform(0.1, 1.0))
                self._send("reward", [_reward(slate, item)])

    def _send(self, name: str, events: list[dict[str, Any]]) -> None:
        """Send feedback; now and then twice, as clients do when an answer gets lost."""
        for _ in range(1 + (random.random() < RESEND_SHARE)):
            with self.client.post(
                "/v1/events", json=events, name=f"/v1/events [{name}]", catch_response=True
            ) as answer:
                if answer.status_code != 202:
                    answer.failure(f"{answer.status_code}: {answer.text}")
                elif any(verdict["verdict"] != "accepted" for verdict in answer.json()["events"]):
                    answer.failure(f"not accepted: {answer.text}")


def _reward(slate: Slate, item: dict[str, Any]) -> dict[str, Any]:
    return {"type": "reward", "attribution_token": slate["attribution_token"], "item_id": item["item_id"]}
