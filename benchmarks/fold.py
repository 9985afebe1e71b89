"""How much slower is the fold than a loop that only reads the same log?

Method: a log is filled with a fixed mix: for every request one record with the impression of its 20 items and one with
a click, on tokens that the recommender itself made for a random bundle (contexts of K = 10 clusters, 500 edges each).
Then two loops take turns over all of it, A B A B …: the fold (judging, summing, one function call a shard in a private
Valkey, under a key prefix of its own each time) and a bare loop that polls the same subscription and throws the records
away. Each pair of neighbouring turns gives a ratio; reported are the medians. Edge increments are additions to one of
an edge's sums, counted before equal edges of a batch are added up. The log is SQLite, or, with KAFKA_BOOTSTRAP_SERVERS
set, Kafka.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import tempfile
import time
import uuid
from concurrent.futures import wait
from pathlib import Path
from typing import Annotated

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
from service.fold.process import FoldProcess
from service.recommender import NOTHING, Recommender
from service.replica import Replica
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import small_bundle

ITEMS = 20


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
            store = Store(connect(valkey.url(settings.state_folder)), Keys("probe", settings.shards))
            retry(stop=stop_after_delay(10), wait=wait_fixed(0.05))(store.client.ping)()
            log = open_log(settings)
            increments = _fill(log, world, settings, store, requests)
            pairs = [
                (_fold(log, settings, store, 2 * requests), _read(log, settings, 2 * requests)) for _ in range(rounds)
            ]
            log.close()
        finally:
            server.terminate()
            server.wait()
    fold_s, bare_s = (float(np.median(column)) for column in zip(*pairs, strict=True))
    print(
        json.dumps(
            {
                "question": "records per second of the fold over a bare consumer loop's",
                "ratio": round(float(np.median([bare / fold for fold, bare in pairs])), 3),
                "log": "kafka" if settings.kafka_bootstrap_servers else "sqlite",
                "fold": {
                    "records_per_second": round(2 * requests / fold_s),
                    "events_per_second": round((ITEMS + 1) * requests / fold_s),
                    "edge_increments_per_second": round(increments / fold_s),
                },
                "bare": {"records_per_second": round(2 * requests / bare_s)},
                "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
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


def _fold(log: FeedbackLog, settings: Settings, store: Store, records: int) -> float:
    """Seconds to fold the whole log from nothing."""
    fresh = Store(store.client, Keys(f"om-{uuid.uuid4().hex[:8]}", settings.shards))
    fresh.prepare(settings.frozen_facts)
    process = FoldProcess(settings, log, fresh)
    started = time.perf_counter()
    while process.folded < records:
        process.step()
    elapsed = time.perf_counter() - started
    process.close()
    store.client.flushall()
    return elapsed


def _read(log: FeedbackLog, settings: Settings, records: int) -> float:
    """Seconds to read the whole log and do nothing."""
    subscription = log.subscribe(lambda partitions: dict.fromkeys(partitions, 0), lambda _: None)
    started = time.perf_counter()
    found = 0
    while found < records:
        found += sum(map(len, subscription.poll(0.2, settings.batch_records).values()))
    elapsed = time.perf_counter() - started
    subscription.close()
    return elapsed


if __name__ == "__main__":
    typer.run(main)
