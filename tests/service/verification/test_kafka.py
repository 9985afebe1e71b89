"""Verification and replay over a real Apache Kafka, whose retention moves on."""

import gc
import os
import time
import warnings
from collections.abc import Callable, Iterator

import orjson
import pytest

from service.feedback_log.base import FeedbackLog, partition_of
from service.fold.judgement import Judge
from service.fold.partition import PartitionFold
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store
from service.token import AttributionToken
from service.verification.archive import LOG_START, Unverifiable
from service.verification.origin import Origin
from service.verification.replay import Replay
from service.verification.verifier import Verifier
from tests.conftest import SHARDS
from tests.kafka_server import KafkaServer
from tests.service.feedback_log.contract import PARTITIONS, KafkaLogs
from tests.service.fold.logs import MANIFEST, impression, reward
from tests.service.fold.slates import a_slate
from tests.service.tokens import KEYS, PSEUDONYM_KEY, VERSION
from tests.service.verification.world import LIMITS

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves sockets behind whose connection fails, or is closed while it is made.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
WINDOW = 1000
manifest = {VERSION: MANIFEST}.__getitem__


@pytest.fixture
def logs(tmp_path_factory: pytest.TempPathFactory, settings: Callable[..., Settings]) -> Iterator[KafkaLogs]:
    if missing := KafkaServer.available():
        (pytest.fail if os.environ.get("KAFKA_REQUIRED") == "1" else pytest.skip)(missing)
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        logs = KafkaLogs(settings, server.bootstrap)
        yield logs
        logs.close()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class World:
    """A log in Kafka and its fold."""

    def __init__(self, log: FeedbackLog, store: Store, settings: Settings) -> None:
        self.log, self.store, self.settings = log, store, settings
        self.epoch = log.epoch()
        self.slates: list[AttributionToken] = []

    def write(self, slates: int) -> None:
        """New slates shown and clicked, and all the old ones once more."""
        now_ms = time.time_ns() // 1_000_000
        first = len(self.slates)
        self.slates += [a_slate(first + n, now_ms, epoch=self.epoch) for n in range(slates)]
        futures = [
            self.log.append(slate.recommendation_id.encode(), orjson.dumps([impression(slate), reward(slate)]))
            for slate in self.slates
        ]
        assert all(future.result(30) for future in futures)

    def fold(self) -> None:
        judge = Judge(KEYS, PSEUDONYM_KEY, self.epoch, PARTITIONS, manifest)
        for home in range(PARTITIONS):
            fold = PartitionFold(home, self.epoch, self.log, self.store, judge, manifest, LIMITS, WINDOW)
            position, end = fold.start(self.store.watermarks(self.epoch, [home])[home]), self.log.bounds(home)[1]
            while position < end:
                records = self.log.read(home, position, min(end, position + 7))
                fold.fold(records)
                position = records[-1].offset + 1

    def verifier(self) -> Verifier:
        return Verifier(self.settings, self.log, self.store, manifest)


def test_it_verifies_from_the_start_and_from_snapshots_and_replays(
    logs: KafkaLogs, store: Store, settings: Callable[..., Settings]
) -> None:
    facts = {"shards": SHARDS, "partitions": PARTITIONS, "window_records": WINDOW}
    keys = {
        "token_keys": {key_id: key.decode() for key_id, key in KEYS.items()},
        "pseudonym_key": PSEUDONYM_KEY.decode(),
    }
    world = World(logs.open(), store, settings(**facts, **keys))
    world.write(40)
    world.fold()
    first = world.verifier().verify()
    assert first.started_from == LOG_START
    assert first.comparison.equal
    assert first.comparison.edges > 50

    replay = Replay(world.settings, world.log, store, Store(store.client, Keys("om.replay", SHARDS)), manifest)
    assert replay.run(Origin()).comparison == first.comparison
    middle = world.log.read(0, 0, 100)[5].append_ms
    assert world.log.offset_at(0, middle) <= 5

    # Old slates are said again, and only the snapshot still knows that they were said before.
    world.write(10)
    world.fold()
    kept = [(slate, partition_of(slate.recommendation_id.encode(), PARTITIONS)) for slate in world.slates[:40]]
    for home in range(PARTITIONS):
        logs.forget(home, before=sum(at == home for _, at in kept))
    second = world.verifier().verify()
    assert second.started_from == first.snapshot
    assert second.comparison.equal
    assert second.recomputation.records == 50
    assert store.totals()["duplicates"] > 0

    world.write(1)
    world.fold()
    for home in range(PARTITIONS):
        logs.forget(home, before=world.log.bounds(home)[1])
    with pytest.raises(Unverifiable, match="the log's start has moved to"):
        world.verifier().verify()
