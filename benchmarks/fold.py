"""How much slower is the fold than a loop that only reads the same log?

Method: a log is filled with a fixed mix: for every request one record with the impression of its 20 items and one with
a click, on tokens that the recommender itself made for a random bundle (contexts of K = 10 clusters, 500 edges each).
Then two loops take turns over all of it, A B A B …: the fold (judging, summing, one function call a shard in a private
Valkey, under a key prefix of its own each time) and a bare loop that polls the same subscription and throws the records
away: over Kafka (KAFKA_BOOTSTRAP_SERVERS) a KafkaConsumer in a group, over SQLite a query. Each pair of neighbouring
turns gives two ratios; reported are the medians. `ratio` takes the loops as they are, `ratio_reading` without the time
until the first records came, which goes into joining a group and is the same for both. Edge increments are additions to
one of an edge's sums, counted before equal edges of a batch are added up.

A busy machine slows loops that wait for one another more than one that waits for nothing. `cpu_us_per_record` hardly
depends on that: what the processes spent, without the brokers. How long function calls took is Valkey's own account of
all turns (`INFO latencystats`); under a backlog they are as long as they get.

The profile's top three costs, in CPU time a record, and what was done about them (122 µs a record over Kafka before):

1. Valkey, 61 → 13 µs: Lua built BITFIELD's arguments one by one. Now it adds in its own numbers and writes a run of
   edges at once, and batches of up to 4000 records let more equal edges meet before they get there.
2. Judging, now about 8 µs: tokens are opened (checked, and their head read) but their arrays stay packed; murmur2 is
   compiled; a seal is checked without letting go of the interpreter, which alone took a quarter of the fold's time.
3. Spreading, summing and packing, now about 7 µs: two kernels over the packed tokens, one sort a batch instead of one
   a shard, three arguments a call instead of three a user and row; and Python looks for garbage less often (8 µs).

While Valkey adds one batch the next one is judged.
"""

from __future__ import annotations

import gc
import json
import os
import platform
import subprocess
import tempfile
import time
import uuid
from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path
from threading import Event, Thread
from typing import Annotated, Any, NamedTuple, cast

import numpy as np
import orjson
import typer
from tenacity import retry, stop_after_delay, wait_fixed

from bandit import bundle
from bandit.bundle import Bundle
from service import pseudonym
from service.embedded import valkey
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog
from service.fold.process import FoldProcess, collect_garbage_seldom
from service.recommender import NOTHING, Recommender
from service.replica import Replica
from service.settings import Settings
from service.store.deltas import Limits, ShardDeltas
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import small_bundle

ITEMS = 20
PERCENTILES = ("p50", "p99", "p99.9")


class Turn(NamedTuple):
    """Seconds that a loop took, those until its first records came, and CPU seconds of this process and Valkey's."""

    whole: float
    joining: float
    cpu: float
    valkey_cpu: float = 0.0


class MeasuredStore(Store):
    """Knows the most increments of a call."""

    most = 0

    def fold(self, field: str, shards: Sequence[ShardDeltas], limits: Limits) -> list[tuple[bool, int]]:
        """Add, and remember the longest call."""
        self.most = max(self.most, *(delta.increments for delta in shards))
        return super().fold(field, shards, limits)


def main(
    requests: Annotated[int, typer.Option(help="Requests in the log, two records each.")] = 20_000,
    rounds: Annotated[int, typer.Option(help="Turns of each loop.")] = 5,
) -> None:
    """Measure, and print one JSON object."""
    world = small_bundle(users=2000, items=5000, clusters=256, width=500, clusters_per_user=10, temperature=20.0)
    with tempfile.TemporaryDirectory() as folder:
        bundle.write(world, f"{folder}/bundles")
        settings = Settings(
            _env_file=None,
            state_folder=Path(folder),
            bundles=f"{folder}/bundles",
            kafka_topic=f"fold-benchmark-{uuid.uuid4().hex[:8]}",
            log_level="WARNING",
        )
        server = subprocess.Popen(valkey.command(settings.state_folder), stdout=subprocess.DEVNULL)
        try:
            store = MeasuredStore(connect(valkey.url(settings.state_folder)), Keys("probe", settings.shards))
            retry(stop=stop_after_delay(10), wait=wait_fixed(0.05))(store.client.ping)()
            log = open_log(settings)
            increments = _fill(log, world, settings, store, requests)
            pairs = []
            for _ in range(rounds):
                folded, most = _fold(log, settings, store, 2 * requests)
                pairs.append((folded, _read(log, settings, 2 * requests)))
            calls = _calls(store)
            log.close()
        finally:
            server.terminate()
            server.wait()
    fold, read = (_medians(turns) for turns in zip(*pairs, strict=True))
    records = 2 * requests
    print(
        json.dumps(
            {
                "question": "records per second of the fold over a bare consumer loop's",
                "ratio": round(_median([b.whole / f.whole for f, b in pairs]), 3),
                "ratio_reading": round(_median([(b.whole - b.joining) / (f.whole - f.joining) for f, b in pairs]), 3),
                "log": "kafka" if settings.kafka_bootstrap_servers else "sqlite",
                "fold": {
                    "records_per_second": round(records / fold.whole),
                    "events_per_second": round((ITEMS + 1) * requests / fold.whole),
                    "edge_increments_per_second": round(increments / fold.whole),
                },
                "bare": {"records_per_second": round(records / read.whole)},
                "cpu_us_per_record": {
                    "fold": round(1e6 * fold.cpu / records, 1),
                    "valkey": round(1e6 * fold.valkey_cpu / records, 1),
                    "bare": round(1e6 * read.cpu / records, 1),
                },
                "call_ms": calls,
                "call_most_increments": {"found": most, "cap": settings.call_edges},
                "machine": {
                    "cores": os.cpu_count(),
                    "load": round(os.getloadavg()[0], 1),
                    "python": platform.python_version(),
                },
            },
            indent=2,
        )
    )


def _fill(log: FeedbackLog, world: Bundle, settings: Settings, store: Store, requests: int) -> int:
    """Append the mix; the number of edge increments in it."""
    recommender = Recommender(settings, world, Replica(world, settings.arms, store, settings.frozen_facts))
    epoch = log.epoch()
    increments, appended = 0, []
    for at in range(requests):
        user_id = world.users["user_id"][at % len(world.users)].as_py()
        context = world.context(user_id)
        assert context is not None
        served = recommender.serve(
            arm=settings.arms[0],
            user=pseudonym.of_user(user_id, settings.pseudonym_bytes),
            context=context,
            limit=ITEMS,
            excluded=NOTHING,
            epoch=epoch,
        )
        clicked = at % ITEMS
        token = served.attribution_token
        impression = {"type": "impression", "attribution_token": token}
        click = {"type": "reward", "attribution_token": token, "item_id": served.item_ids[clicked]}
        appended += [
            log.append(served.recommendation_id.encode(), orjson.dumps(event)) for event in (impression, click)
        ]
        present = served.edges >= 0
        increments += 2 * int(present.sum()) + int(present[clicked].sum())
    wait(appended)
    return increments


def _fold(log: FeedbackLog, settings: Settings, store: Store, records: int) -> tuple[Turn, int]:
    """Fold the whole log from nothing, as the fold's process does; the most increments of a call beside it."""
    fresh = MeasuredStore(store.client, Keys(f"om-{uuid.uuid4().hex[:8]}", settings.shards))
    fresh.prepare(settings.frozen_facts)
    found = Event()
    before = gc.get_threshold()
    collect_garbage_seldom()
    process = FoldProcess(settings, _Watched(log, found), fresh)
    runs = Thread(target=process.run)
    cpu, valkey_cpu, started = time.process_time(), _valkey_cpu(store), time.perf_counter()
    runs.start()
    found.wait()
    joined = time.perf_counter()
    while process.folded < records:
        time.sleep(0.002)
    ended = time.perf_counter()
    turn = Turn(ended - started, joined - started, time.process_time() - cpu, _valkey_cpu(store) - valkey_cpu)
    process.stop()
    runs.join()
    gc.set_threshold(*before)
    store.client.flushall()
    return turn, fresh.most


def _read(log: FeedbackLog, settings: Settings, records: int) -> Turn:
    """Read the whole log and do nothing."""
    subscription = log.subscribe(lambda partitions: dict.fromkeys(partitions, 0), lambda _: None)
    cpu, started = time.process_time(), time.perf_counter()
    found, joined = 0, 0.0
    while found < records:
        found += sum(map(len, subscription.poll(0.2, settings.batch_records).values()))
        if found and not joined:
            joined = time.perf_counter()
    turn = Turn(time.perf_counter() - started, joined - started, time.process_time() - cpu)
    subscription.close()
    return turn


class _Watched:
    """A log whose subscription says when the first records came."""

    def __init__(self, log: FeedbackLog, found: Event) -> None:
        self._log = log
        self._found = found

    def __getattr__(self, name: str) -> Any:
        return getattr(self._log, name)

    def subscribe(self, *listeners: Any) -> Any:
        subscription: Any = self._log.subscribe(*listeners)
        poll = subscription.poll

        def watched(timeout_s: float, limit: int) -> Any:
            records = poll(timeout_s, limit)
            if records:
                self._found.set()
            return records

        subscription.poll = watched
        return subscription


def _valkey_cpu(store: Store) -> float:
    found = cast(dict[str, float], store.client.info("cpu"))
    return found["used_cpu_user"] + found["used_cpu_sys"]


def _calls(store: Store) -> dict[str, float]:
    """Percentiles of the time that function calls took, in ms."""
    found = cast(dict[str, dict[str, float]], store.client.info("latencystats"))["latency_percentiles_usec_fcall"]
    return {name: round(found[name] / 1000, 2) for name in PERCENTILES}


def _medians(turns: Sequence[Turn]) -> Turn:
    return Turn(*(_median(column) for column in zip(*turns, strict=True)))


def _median(ratios: Sequence[float]) -> float:
    return float(np.median(ratios))


if __name__ == "__main__":
    typer.run(main)
