"""The fold and the whole loop over a Redis Cluster of three masters: what dies or moves, every event counts once."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from threading import Event, Thread
from typing import Any, NamedTuple

import orjson
import pytest
import redis

from bandit import bundle
from service.feedback_log.sqlite import SqliteLog
from service.fold import process as fold_process
from service.fold.process import FoldProcess
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import small_bundle
from tests.conftest import PARTITIONS, SHARDS
from tests.redis_cluster import RedisCluster
from tests.service.fold.logs import MANIFEST, impression, reward
from tests.service.fold.slates import a_slate
from tests.service.loop import Loop
from tests.service.servers import until
from tests.service.single_pass import Rules, single_pass, statistics_in, whole_log
from tests.service.tokens import KEYS, PSEUDONYM_KEY, VERSION

pytestmark = pytest.mark.cluster
WINDOW = 200
WAIT_S = 60.0


class Fold(NamedTuple):
    """A fold over the cluster, with its log."""

    settings: Settings
    store: Store
    log: SqliteLog

    def is_level(self) -> bool:
        """Whether all that was appended is folded."""
        return self.folded() == sum(self.log.bounds(partition)[1] for partition in range(PARTITIONS))

    def check(self) -> None:
        """The cluster holds, to the bit, what a single pass over the log comes to."""
        rules = Rules(KEYS, PSEUDONYM_KEY, self.log.epoch(), PARTITIONS, WINDOW, lambda _: MANIFEST)
        outcome = single_pass(whole_log(self.log), rules)
        assert statistics_in(self.store.client, self.store.keys.prefix) == outcome.statistics
        assert self.store.totals() == outcome.totals
        assert len(outcome.statistics) > 100
        assert outcome.totals["duplicates"] > 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """Fold in a thread, while another appends."""
        process = FoldProcess(self.settings, self.log, self.store)
        done = Event()
        threads = [Thread(target=process.run), Thread(target=self._append, args=(done,))]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            done.set()
            threads[1].join()
            try:
                until(self.is_level, WAIT_S)
            finally:
                process.stop()
                threads[0].join()

    def _append(self, done: Event) -> None:
        number = 0
        while not done.wait(0.002):
            slate = a_slate(
                number, time.time_ns() // 1_000_000, home=number % PARTITIONS, epoch=self.log.epoch(), life_s=600
            )
            said = [impression(slate), reward(slate), reward(slate) if number % 3 else impression(slate)]
            self.log.append(slate.recommendation_id.encode(), orjson.dumps(said)).result(10)
            number += 1

    def wait_for_progress(self, records: int = 150) -> None:
        until(lambda: self.folded() >= 0, WAIT_S)
        goal = self.folded() + records
        until(lambda: self.folded() >= goal, WAIT_S)

    def folded(self) -> int:
        """Records that every shard has taken; -1 while a master is away."""
        try:
            found = self.store.watermarks(self.log.epoch(), range(PARTITIONS))
        except redis.RedisError:
            return -1
        return sum(min(offsets) for offsets in found.values())


@pytest.fixture
def fold(
    redis_cluster: RedisCluster, settings: Callable[..., Settings], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Fold]:
    monkeypatch.setattr(fold_process, "POLL_S", 0.02)
    monkeypatch.setattr(fold_process, "CHECK_EVERY_S", 0.1)
    ours = settings(
        token_keys={key_id: key.decode() for key_id, key in KEYS.items()},
        pseudonym_key=PSEUDONYM_KEY.decode(),
        shards=SHARDS,
        partitions=PARTITIONS,
        window_records=WINDOW,
        batch_records=50,
        bundle_wait_s=0,
    )
    plain = small_bundle(version=VERSION)
    tables = {"reward_table": MANIFEST.reward_table, "examination_table": MANIFEST.examination_table}
    bundle.write(replace(plain, manifest=plain.manifest.model_copy(update=tables)), ours.bundles)
    store = Store(connect(redis_cluster.url), Keys(ours.key_prefix, SHARDS))
    store.client.flushall()
    store.prepare(ours.frozen_facts)
    log = SqliteLog(ours.feedback_database, PARTITIONS, ours.log_retention_s)
    yield Fold(ours, store, log)
    log.close()
    store.close()


def test_the_shards_lie_on_all_masters(fold: Fold, redis_cluster: RedisCluster) -> None:
    holders = {redis_cluster.holder(fold.store.keys.watermarks(shard)) for shard in range(SHARDS)}
    assert holders == {0, 1, 2}


def test_what_is_folded_is_a_single_pass_over_the_log(fold: Fold) -> None:
    with fold.running():
        fold.wait_for_progress()
    fold.check()


def test_a_master_that_is_killed_is_waited_for(fold: Fold, redis_cluster: RedisCluster) -> None:
    with fold.running():
        for node in redis_cluster.nodes:
            fold.wait_for_progress()
            node.kill()
            node.start()
            redis_cluster.wait()
    fold.check()


def test_a_master_that_comes_back_empty_is_filled_again(fold: Fold, redis_cluster: RedisCluster) -> None:
    """Neither its data nor the functions are there, but its place in the cluster."""
    holder = redis_cluster.holder(fold.store.keys.watermarks(0))
    with fold.running():
        fold.wait_for_progress()
        with redis_cluster.nodes[holder].client() as client:
            client.function_flush()
            client.flushall()
        fold.wait_for_progress()
    fold.check()


def test_slots_that_move_are_followed(fold: Fold, redis_cluster: RedisCluster) -> None:
    homes = {shard: redis_cluster.holder(fold.store.keys.watermarks(shard)) for shard in range(SHARDS)}
    with fold.running():
        for step in (1, 0):  # to the next master, and back home
            for shard, home in homes.items():
                fold.wait_for_progress(30)
                redis_cluster.move(fold.store.keys.watermarks(shard), (home + step) % 3)
    fold.check()


def test_the_whole_loop(redis_cluster: RedisCluster, settings: Callable[..., Settings]) -> None:
    store = Store(connect(redis_cluster.url), Keys("om", SHARDS))
    store.client.flushall()
    chosen = settings(shards=SHARDS, partitions=PARTITIONS, seed=0)
    with Loop(chosen, redis_cluster.url, small_bundle()) as loop:
        users = [f"somebody {number}" for number in range(12)]
        slates = {user: loop.recommend(user_id=user, limit=4) for user in users}
        for slate in slates.values():
            token = {"attribution_token": slate["attribution_token"]}
            item_id = slate["items"][0]["item_id"]
            assert loop.send({"type": "impression", **token}, {"type": "reward", "item_id": item_id, **token}) == [
                "accepted",
                "accepted",
            ]
        loop.fold()
        for user, slate in slates.items():
            again = loop.recommend(user_id=user, limit=60, exclude_seen=True)
            assert again["degraded"] == []
            assert ids(again).isdisjoint(ids(slate))
            assert loop.item(slate["items"][0]["item_id"], view="state")["state"][0]["rewards"] > 0
        assert loop.client.get("/health/ready").json()["status"] == "ready"
    store.close()


def test_while_a_master_is_away_recommendations_go_on(
    redis_cluster: RedisCluster, settings: Callable[..., Settings]
) -> None:
    chosen = settings(shards=SHARDS, partitions=PARTITIONS, seed=0)
    with Loop(chosen, redis_cluster.url, small_bundle()) as loop:
        until(lambda: loop.client.get("/health/ready").json()["status"] == "ready")
        redis_cluster.nodes[1].kill()
        try:
            until(lambda: loop.client.get("/health/ready").json()["status"] == "degraded")
            assert loop.client.get("/health/ready").json()["dependencies"]["redis"]["ok"] is False
            for number in range(20):
                slate = loop.recommend(user_id=f"somebody {number}", limit=3, exclude_seen=True)
                assert len(slate["items"]) == 3
        finally:
            redis_cluster.nodes[1].start()
            redis_cluster.wait()
        until(lambda: loop.client.get("/health/ready").json()["status"] == "ready")


def ids(slate: dict[str, Any]) -> set[str]:
    return {item["item_id"] for item in slate["items"]}
