"""How long after an event was accepted is its changed score served, at 1,000 events a second?

Method: `python -m service` (API, fold, a private Valkey, everything on this machine) serves a random bundle; visits
arrive at a fixed rate whether or not the service keeps up: a slate of ten for a known user, then its impression and one
click. Beside them a probe, which learns in a namespace of its own, looks at one user's slate over and over: it sends an
impression and a click, notes when 202 came, and asks again and again until the last score that changes has changed.
Reported: quantiles of the probe's times, which hold HTTP and up to two milliseconds of asking; and of the service's own
`om_freshness_seconds` over all traffic, read off its histogram's buckets. Once with the log in SQLite; once in a real
Kafka, where Java and Maven are there to start one.
"""

from __future__ import annotations

import asyncio
import json
import os
import platform
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import aiohttp
import numpy as np
import orjson
import typer
import uvloop

from bandit import bundle
from bandit.bundle import Bundle
from loadtest import report
from loadtest.local_service import LocalService
from loadtest.monitor import Monitor
from tests.bundles import small_bundle
from tests.kafka_server import KafkaServer

ARMS = [{"name": "default"}, {"name": "probe", "namespace": "probe", "share": 0}]
EVENTS_PER_VISIT = 2
SLATE = 10
WARM_S = 3.0
ASK_EVERY_S = 0.002
# No score changes for so long after one that did: nothing more comes of the event.
QUIET_S = 0.25
LOST_S = 10.0


def main(
    rate: Annotated[int, typer.Option(help="Events per second.")] = 1000,
    seconds: Annotated[float, typer.Option(help="Length of a turn.")] = 30.0,
) -> None:
    """Measure, and print one JSON object."""
    world = small_bundle(users=2000, items=5000, clusters=256, width=150)
    logs = {}
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(world, f"{folder}/bundles")
        logs["sqlite"] = _measure(world, Path(folder), "sqlite", {}, rate, seconds)
        if missing := KafkaServer.available():
            logs["kafka"] = {"skipped": missing}
        else:
            server = KafkaServer(Path(folder))
            server.start()
            try:
                kafka = {"KAFKA_BOOTSTRAP_SERVERS": server.bootstrap}
                logs["kafka"] = _measure(world, Path(folder), "kafka", kafka, rate, seconds)
            finally:
                server.stop()
    result = {
        "question": "milliseconds from an event's acceptance to its changed score being served",
        "events_per_second": rate,
        **logs,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))


def _measure(
    world: Bundle, folder: Path, name: str, log: Mapping[str, str], rate: int, seconds: float
) -> dict[str, Any]:
    environment = {
        "BUNDLES": str(folder / "bundles"),
        "ARMS": json.dumps(ARMS),
        # A slate drawn at random would look like a change.
        "LOGGING_SHARE": "0",
        "LOG_LEVEL": "WARNING",
        **log,
    }
    with LocalService(folder / f"state-{name}", environment) as service:
        service.wait_until_ready()
        return uvloop.run(_turn(world, service, rate / EVENTS_PER_VISIT, seconds))


async def _turn(world: Bundle, service: LocalService, visits_per_second: float, seconds: float) -> dict[str, Any]:
    users: list[str] = world.users["user_id"].to_pylist()
    monitor = Monitor(service.url, service.fold_url)
    connector = aiohttp.TCPConnector(limit=64)
    async with (
        aiohttp.ClientSession(service.url, connector=connector) as session,
        aiohttp.ClientSession() as metrics,
    ):
        await _visits(session, users, visits_per_second, WARM_S)
        await monitor.look(metrics)
        probe = asyncio.create_task(_probe(session, users[0], seconds))
        sent = await _visits(session, users, visits_per_second, seconds)
        probed = np.array(await probe) * 1000
        await monitor.look(metrics)
    p50, p99 = np.percentile(probed, [50, 99]).round(1).tolist()
    return {
        "events_sent_per_second": round(sent * EVENTS_PER_VISIT / seconds),
        "probe": {"p50": p50, "p99": p99, "probes": len(probed)},
        "service": report.freshness_ms(monitor.freshness),
    }


async def _visits(session: aiohttp.ClientSession, users: list[str], per_second: float, seconds: float) -> int:
    """Start visits at a fixed rate, and wait for the last one; how many there were."""
    rng = np.random.default_rng(1)
    began, running = time.perf_counter(), set()
    count = round(per_second * seconds)
    for at in range(count):
        wait = began + at / per_second - time.perf_counter()
        if wait > 0:
            await asyncio.sleep(wait)
        visit = asyncio.create_task(
            _visit(session, users[rng.integers(len(users))], "default", int(rng.integers(SLATE)))
        )
        running.add(visit)
        visit.add_done_callback(running.discard)
    await asyncio.gather(*running)
    return count


async def _visit(session: aiohttp.ClientSession, user: str, arm: str, clicked: int) -> None:
    slate = await _post(session, "/v1/recommendations", {"user_id": user, "limit": SLATE, "arm": arm}, 200)
    token, item = slate["attribution_token"], slate["items"][clicked]["item_id"]
    events = [
        {"type": "impression", "attribution_token": token},
        {"type": "reward", "attribution_token": token, "item_id": item},
    ]
    await _post(session, "/v1/events", events, 202)


async def _probe(session: aiohttp.ClientSession, user: str, seconds: float) -> list[float]:
    """Seconds from the 202 of a click to the last change of a score that it made, over and over."""
    found: list[float] = []
    ends = time.perf_counter() + seconds
    while time.perf_counter() < ends:
        before = await _scores(session, user)
        await _visit(session, user, "probe", len(found) % SLATE)
        accepted = time.perf_counter()
        changed = 0.0
        while time.perf_counter() - max(accepted, changed) < (QUIET_S if changed else LOST_S):
            scores = await _scores(session, user)
            if scores != before:
                before, changed = scores, time.perf_counter()
            await asyncio.sleep(ASK_EVERY_S)
        if not changed:
            raise RuntimeError(f"an accepted click changed nothing within {LOST_S:.0f} s")
        found.append(changed - accepted)
    return found


async def _scores(session: aiohttp.ClientSession, user: str) -> list[Any]:
    asked = {"user_id": user, "limit": SLATE, "arm": "probe"}
    return [list(item.items()) for item in (await _post(session, "/v1/recommendations", asked, 200))["items"]]


async def _post(session: aiohttp.ClientSession, path: str, body: Any, expected: int) -> dict[str, Any]:
    async with session.post(path, data=orjson.dumps(body)) as response:
        content = await response.read()
    if response.status != expected:
        raise RuntimeError(f"{path} answered {response.status}: {content[:300]!r}")
    answer: dict[str, Any] = orjson.loads(content)
    return answer


if __name__ == "__main__":
    typer.run(main)
