"""Simulated users: they ask for slates over HTTP, click what the world says they like, and send the feedback.

Every visit names its arm; the arms take turns in random order. Left alone the service would choose the arm by the
user's hash, as an experiment on people should; but a few users make a large share of these visits, so arms would be
compared on different users, and the luck of who got the heaviest ones would outweigh the policies. Taking turns, all
arms meet the same distribution of users, equally often.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import aiohttp
import numpy as np
import orjson

from loadtest.visits import VisitLog
from loadtest.world import World

HEADERS = {"Content-Type": "application/json"}
TIMEOUT_S = 10.0
PAUSE_S = 0.2
# How long after the traffic's end feedback is still sent again; then it is given up and counted as lost.
PATIENCE_S = 30.0

Event = dict[str, Any]


class TrafficError(Exception):
    """The service refuses what the traffic asks; the message holds its answer."""


@dataclass
class Delivery:
    """The senders' own books, counted per (event, item).

    Attributes:
        accepted: acknowledged by the service: durable in the feedback log.
        refused: answered with a reason, for good.
        unknown: sent, but the answer got lost or said "retry": the log may hold them. They were sent again, so each may
            come up in the fold's books once more than in `accepted`, there mostly as a duplicate.
        lost: given up after the traffic's end.
        retries: requests that had to be sent again, of either kind.
    """

    accepted: int = 0
    refused: int = 0
    unknown: int = 0
    lost: int = 0
    retries: int = 0


class Traffic:
    """Visits of simulated users, a bounded number of them at once."""

    def __init__(
        self, world: World, url: str, arms: Sequence[str], seed: int, *, limit: int = 10, concurrency: int = 12
    ) -> None:
        """`url` is the service's, `arms` are names of its experiment table, `limit` is the length of a slate."""
        self.visits = VisitLog()
        self.delivery = Delivery()
        self._world = world
        self._url = url
        self._arms = tuple(arms)
        self._limit = limit
        self._concurrency = concurrency
        # Which draw meets which visit depends on the order of answers: a seed repeats the distribution, not the run.
        self._rng = np.random.default_rng(seed)
        # The oracle's slates never change: sort the catalogue once for each user, not for each visit.
        slates = np.stack([world.oracle_slate(user, limit) for user in range(len(world.users))])
        self._oracle_probability = np.take_along_axis(world.click_probability, slates, axis=1)
        self._turns: list[int] = []
        self._began = 0.0
        self._ends = 0.0

    async def run(self, seconds: float) -> None:
        """Visit for so long, then finish the visits under way.

        Raises:
            TrafficError: the service refuses a request for a slate or does not understand the feedback.
        """
        self._began = time.monotonic()
        self._ends = self._began + seconds
        async with aiohttp.ClientSession(
            self._url,
            headers=HEADERS,
            connector=aiohttp.TCPConnector(limit=self._concurrency),
            timeout=aiohttp.ClientTimeout(total=TIMEOUT_S),
            cookie_jar=aiohttp.DummyCookieJar(),
        ) as session:
            users = [asyncio.create_task(self._browse(session)) for _ in range(self._concurrency)]
            try:
                await asyncio.gather(*users)
            finally:
                for user in users:
                    user.cancel()
                await asyncio.gather(*users, return_exceptions=True)

    async def _browse(self, session: aiohttp.ClientSession) -> None:
        while time.monotonic() < self._ends:
            await self._visit(session)

    async def _visit(self, session: aiohttp.ClientSession) -> None:
        user = self._world.visitor(self._rng)
        arm = self._next_arm()
        answer = await self._slate(session, user, self._arms[arm])
        if answer is None:
            return
        items = [item["item_id"] for item in answer["items"]]
        clicked = self._world.clicks(user, items, self._rng)
        oracle = self._rng.random(self._limit) < self._oracle_probability[user]
        seconds = time.monotonic() - self._began
        self.visits.append(seconds, arm, len(items), int(clicked.sum()), self._limit, int(oracle.sum()))
        token = answer["attribution_token"]
        impression = {"type": "impression", "attribution_token": token, "items": items}
        rewards = [
            {"type": "reward", "attribution_token": token, "item_id": items[place]} for place in np.flatnonzero(clicked)
        ]
        await self._send(session, [impression, *rewards])

    def _next_arm(self) -> int:
        """Every arm once, in random order; then again."""
        if not self._turns:
            self._turns = self._rng.permutation(len(self._arms)).tolist()
        return self._turns.pop()

    async def _slate(self, session: aiohttp.ClientSession, user: int, arm: str) -> Event | None:
        """Ask until there is a slate; None when the traffic ends before that."""
        body = orjson.dumps({"user_id": self._world.users[user], "limit": self._limit, "arm": arm})
        while True:
            try:
                status, answer = await _post(session, "/v1/recommendations", body)
            except (aiohttp.ClientError, TimeoutError):
                status = 503
            if status == 200:
                return answer
            if status < 500:
                raise TrafficError(f"/v1/recommendations answered {status}: {answer.get('detail', answer)}")
            self.delivery.retries += 1
            if time.monotonic() > self._ends:
                return None
            await asyncio.sleep(PAUSE_S)

    async def _send(self, session: aiohttp.ClientSession, events: list[Event]) -> None:
        """Send until every event is accepted or refused: whoever answers for the service may die in between."""
        while True:
            try:
                status, answer = await _post(session, "/v1/events", orjson.dumps(events))
            except aiohttp.ClientConnectorError:
                pass  # never left this process
            except (aiohttp.ClientError, TimeoutError):
                self.delivery.unknown += _items(events)
            else:
                events = self._settle(events, status, answer)
            if not events:
                return
            self.delivery.retries += 1
            if time.monotonic() > self._ends + PATIENCE_S:
                self.delivery.lost += _items(events)
                return
            await asyncio.sleep(PAUSE_S)

    def _settle(self, events: list[Event], status: int, answer: Event) -> list[Event]:
        """Book an answer; the events that must be sent again."""
        if "events" not in answer:
            if status < 500:
                raise TrafficError(f"/v1/events answered {status}: {answer.get('detail', answer)}")
            self.delivery.unknown += _items(events) if status == 500 else 0
            return events
        again = []
        for event, verdict in zip(events, answer["events"], strict=True):
            match verdict["verdict"]:
                case "accepted":
                    self.delivery.accepted += _items([event])
                case "refused":
                    self.delivery.refused += _items([event])
                case _:
                    again.append(event)
        self.delivery.unknown += _items(again)
        return again


async def _post(session: aiohttp.ClientSession, path: str, body: bytes) -> tuple[int, Event]:
    async with session.post(path, data=body) as response:
        content = await response.read()
    try:
        return response.status, orjson.loads(content)
    except orjson.JSONDecodeError:
        return response.status, {"detail": content[:200].decode(errors="replace")}


def _items(events: Sequence[Event]) -> int:
    """How many (event, item) pairs these are."""
    return sum(len(event["items"]) if event["type"] == "impression" else 1 for event in events)
