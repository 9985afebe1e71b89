"""Traffic against a stand-in that fails on purpose: what is counted is what was acknowledged, exactly."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from loadtest import traffic as traffic_module
from loadtest.traffic import Traffic, TrafficError
from loadtest.world import World

ITEMS = tuple(f"item-{number}" for number in range(30))
ARMS = ("default", "random")
Answer = Callable[["Service", list[dict[str, Any]]], web.Response]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(traffic_module, "PAUSE_S", 0.01)
    monkeypatch.setattr(traffic_module, "PATIENCE_S", 0.1)


@pytest.fixture
def world() -> World:
    users = tuple(f"user-{number}" for number in range(5))
    probability = np.tile(np.linspace(0.6, 0.001, len(ITEMS), dtype=np.float32), (len(users), 1))
    return World(users, ITEMS, np.full(len(users), 1 / len(users)), probability)


class Service:
    """Answers slates of the last ten items; `feedback` decides what becomes of events. Its log is `kept`."""

    def __init__(self, feedback: Answer, *, slates: int = 200) -> None:
        self.kept: list[dict[str, Any]] = []
        self.asked: Counter[str] = Counter()
        self.feedback_requests = 0
        self.transport: asyncio.BaseTransport | None = None
        self._feedback, self._slates = feedback, slates
        app = web.Application()
        app.router.add_post("/v1/recommendations", self._recommend)
        app.router.add_post("/v1/events", self._take)
        self.server = TestServer(app)

    async def _recommend(self, request: web.Request) -> web.Response:
        asked = await request.json()
        assert set(asked) == {"user_id", "limit", "arm"}
        self.asked[asked["arm"]] += 1
        if self._slates != 200 and self.asked.total() % 3:
            return web.json_response({"detail": "in vain"}, status=self._slates)
        items = [{"item_id": item_id} for item_id in ITEMS[-asked["limit"] :]]
        return web.json_response({"attribution_token": str(self.asked.total()), "items": items})

    async def _take(self, request: web.Request) -> web.Response:
        self.feedback_requests += 1
        self.transport = request.transport
        return self._feedback(self, await request.json())

    def accept(self, events: list[dict[str, Any]]) -> web.Response:
        self.kept += events
        return web.json_response({"events": [{"verdict": "accepted"} for _ in events]}, status=202)

    @property
    def items_kept(self) -> int:
        return sum(len(event.get("items", [None])) for event in self.kept)


def drive(service: Service, world: World, seconds: float = 0.5) -> Traffic:
    async def run() -> Traffic:
        async with service.server:
            traffic = Traffic(world, str(service.server.make_url("/")), ARMS, seed=1, concurrency=3)
            await traffic.run(seconds)
            return traffic

    return asyncio.run(run())


def test_counts_what_it_did(world: World) -> None:
    service = Service(Service.accept)
    traffic = drive(service, world)
    visits = traffic.visits.visits()
    impressions = [event for event in service.kept if event["type"] == "impression"]
    rewards = [event for event in service.kept if event["type"] == "reward"]
    assert len(visits.shown) == len(impressions) > 0
    assert visits.shown.sum() == sum(len(event["items"]) for event in impressions)
    assert visits.clicked.sum() == len(rewards) > 0
    assert traffic.delivery.accepted == service.items_kept
    assert [np.sum(visits.arm == number) for number in range(2)] == [service.asked[name] for name in ARMS]
    assert np.all(np.diff(visits.seconds) >= 0)
    # The oracle shows the best ten, the stand-in the worst.
    assert visits.oracle_clicked.sum() > 2 * visits.clicked.sum()


def test_sends_again_what_is_to_be_retried_and_only_that(world: World) -> None:
    def retry_rewards_once(service: Service, events: list[dict[str, Any]]) -> web.Response:
        if events[0]["type"] == "reward" or len(events) == 1:
            return service.accept(events)
        service.kept.append(events[0])
        verdicts = [{"verdict": "accepted"}, *({"verdict": "retry"} for _ in events[1:])]
        return web.json_response({"events": verdicts}, status=503)

    service = Service(retry_rewards_once)
    traffic = drive(service, world)
    rewards = sum(event["type"] == "reward" for event in service.kept)
    assert traffic.delivery.accepted == service.items_kept
    assert traffic.delivery.unknown == rewards == traffic.visits.visits().clicked.sum() > 0
    assert traffic.delivery.lost == 0


def test_an_answer_that_got_lost_is_of_unknown_outcome(world: World) -> None:
    def keep_but_hang_up(service: Service, events: list[dict[str, Any]]) -> web.Response:
        if service.feedback_requests % 2:
            assert service.transport is not None
            service.transport.close()
        return service.accept(events)

    service = Service(keep_but_hang_up)
    traffic = drive(service, world)
    delivery = traffic.delivery
    assert delivery.unknown > 0
    assert delivery.retries > 0
    assert delivery.accepted <= service.items_kept <= delivery.accepted + delivery.unknown


def test_refused_is_refused_and_never_answered_is_lost(world: World) -> None:
    def refuse(service: Service, events: list[dict[str, Any]]) -> web.Response:
        return web.json_response({"events": [{"verdict": "refused", "reason": "r"} for _ in events]}, status=422)

    delivery = drive(Service(refuse), world).delivery
    assert delivery.refused > 0
    assert (delivery.accepted, delivery.retries) == (0, 0)

    def unavailable(service: Service, events: list[dict[str, Any]]) -> web.Response:
        return web.json_response({"detail": "no log yet"}, status=503)

    delivery = drive(Service(unavailable), world, 0.05).delivery
    assert delivery.lost > 0
    assert (delivery.accepted, delivery.unknown) == (0, 0)


def test_asks_again_for_slates_that_do_not_come(world: World) -> None:
    traffic = drive(Service(Service.accept, slates=503), world)
    assert len(traffic.visits) > 0
    assert traffic.delivery.retries > 0


def test_says_what_the_service_will_not_do(world: World) -> None:
    with pytest.raises(TrafficError, match="answered 422: in vain"):
        drive(Service(Service.accept, slates=422), world)

    def no(service: Service, events: list[dict[str, Any]]) -> web.Response:
        return web.Response(text="<html>not us</html>", status=404)

    with pytest.raises(TrafficError, match="/v1/events answered 404: <html>not us"):
        drive(Service(no), world)


def test_nobody_there() -> None:
    users = ("user",)
    world = World(users, ITEMS, np.ones(1), np.full((1, len(ITEMS)), 0.1, dtype=np.float32))
    traffic = Traffic(world, "http://127.0.0.1:9", ARMS, seed=1, concurrency=2)
    asyncio.run(traffic.run(0.1))
    assert len(traffic.visits) == 0
    assert traffic.delivery.retries > 0
