"""Several folds share a real topic: they come, they leave, Redis goes away under them, and everything counts once."""

import gc
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from threading import Thread

import orjson
import pytest
from prometheus_client import REGISTRY

from bandit import bundle
from service.feedback_log import open_log
from service.feedback_log.base import FeedbackLog
from service.fold.process import FoldProcess
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.bundles import small_bundle
from tests.conftest import PARTITIONS, SHARDS
from tests.kafka_server import KafkaServer
from tests.service.fold.logs import MANIFEST, impression, reward
from tests.service.fold.slates import a_slate
from tests.service.servers import PrivateValkey, until
from tests.service.single_pass import Rules, single_pass, statistics_in, whole_log
from tests.service.tokens import KEYS, PSEUDONYM_KEY, VERSION

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves sockets behind whose connection fails, or is closed while it is made.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]
WAIT_S = 60.0
ALL = set(range(PARTITIONS))


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    KafkaServer.require()
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


class Running:
    """A fold with its own clients, in a thread of its own."""

    def __init__(self, settings: Settings, url: str) -> None:
        self._log = open_log(settings)
        self._store = Store(connect(url), Keys(settings.key_prefix, SHARDS))
        self._store.prepare(settings.frozen_facts)
        self.process = FoldProcess(settings, self._log, self._store)
        self._runs = Thread(target=self.process.run, daemon=True)
        self._runs.start()

    def stop(self) -> None:
        """As SIGTERM does."""
        self.process.stop()
        self._runs.join(WAIT_S)
        assert not self._runs.is_alive()
        self._log.close()
        self._store.close()


class Group:
    """A topic and a Valkey, what is written into the one and what must come of it in the other."""

    def __init__(self, settings: Settings, folder: Path) -> None:
        self.settings = settings
        self.valkey = PrivateValkey(folder)
        self.valkey.start()
        self.log: FeedbackLog = open_log(settings)
        self.store = Store(connect(self.valkey.url), Keys(settings.key_prefix, SHARDS))
        self._folds: list[Running] = []
        self._written = 0

    def fold(self) -> Running:
        self._folds.append(Running(self.settings, self.valkey.url))
        return self._folds[-1]

    def leave(self, fold: Running) -> None:
        self._folds.remove(fold)
        fold.stop()

    def write(self, count: int = 40) -> None:
        """Slates that were shown and clicked, a click twice, and a few that mean nothing."""
        now_ms, epoch = time.time_ns() // 1_000_000, self.log.epoch()
        sent = []
        for number in range(self._written, self._written + count):
            slate = a_slate(number, now_ms, home=number % PARTITIONS, epoch=epoch)
            said = [
                [impression(slate), reward(slate)],
                reward(slate),
                "senseless" if number % 5 == 0 else reward(slate),
            ]
            sent += [self.log.append(slate.recommendation_id.encode(), orjson.dumps(event)) for event in said]
        for future in sent:
            future.result(WAIT_S)
        self._written += count

    def is_done(self) -> bool:
        """Whether every shard has folded every partition to its end."""
        ends = self.log.ends()
        found = self.store.watermarks(self.log.epoch(), range(PARTITIONS))
        return all(min(watermarks) == ends[partition] for partition, watermarks in found.items())

    def assert_exactly_once(self) -> None:
        window = self.settings.window_records
        rules = Rules(KEYS, PSEUDONYM_KEY, self.log.epoch(), PARTITIONS, window, lambda _: MANIFEST)
        outcome = single_pass(whole_log(self.log), rules)
        assert statistics_in(self.store.client) == outcome.statistics
        assert self.store.totals() == outcome.totals

    def close(self) -> None:
        for fold in self._folds:
            fold.stop()
        self.log.close()
        self.store.close()
        self.valkey.kill()


def replays() -> float:
    """How often folds here have let a partition wait until it is started anew."""
    return REGISTRY.get_sample_value("om_fold_replays_total") or 0.0


@pytest.fixture
def group(
    kafka: KafkaServer, settings: Callable[..., Settings], tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Group]:
    name = request.function.__name__
    ours = settings(
        kafka_bootstrap_servers=kafka.bootstrap,
        kafka_topic=name,
        kafka_dead_letter_topic=f"{name}.dead-letter",
        kafka_group=name,
        token_keys={key_id: key.decode() for key_id, key in KEYS.items()},
        pseudonym_key=PSEUDONYM_KEY.decode(),
        shards=SHARDS,
        partitions=PARTITIONS,
        window_records=50,
        batch_records=7,
        bundle_wait_s=0,
    )
    plain = small_bundle(version=VERSION)
    tables = {"reward_table": MANIFEST.reward_table, "examination_table": MANIFEST.examination_table}
    bundle.write(replace(plain, manifest=plain.manifest.model_copy(update=tables)), ours.bundles)
    group = Group(ours, tmp_path / "valkey")
    yield group
    group.close()


def test_who_leaves_hands_its_partitions_over(group: Group) -> None:
    one, other = group.fold(), group.fold()
    group.write()
    until(lambda: one.process.partitions and other.process.partitions, WAIT_S)
    until(lambda: one.process.partitions | other.process.partitions == ALL, WAIT_S)
    until(group.is_done, WAIT_S)
    group.write()  # and it leaves in the midst of that
    group.leave(one)
    assert one.process.partitions == set()
    until(lambda: other.process.partitions == ALL, WAIT_S)
    until(group.is_done, WAIT_S)
    group.assert_exactly_once()


def test_who_comes_takes_its_share_and_nothing_is_lost(group: Group) -> None:
    one = group.fold()
    group.write()
    until(group.is_done, WAIT_S)
    assert one.process.partitions == ALL
    group.write()
    other = group.fold()
    until(lambda: len(one.process.partitions) == len(other.process.partitions) == PARTITIONS // 2, WAIT_S)
    group.write()
    until(group.is_done, WAIT_S)
    group.assert_exactly_once()


def test_while_redis_is_away_folds_stay_in_their_group(group: Group) -> None:
    folds = [group.fold() for _ in range(2)]
    until(lambda: all(len(fold.process.partitions) == PARTITIONS // 2 for fold in folds), WAIT_S)
    group.write()
    until(group.is_done, WAIT_S)  # by who holds them now: every partition is started
    held = [fold.process.partitions for fold in folds]
    before = replays()
    group.valkey.kill()
    group.write()
    until(lambda: replays() >= before + PARTITIONS, WAIT_S)  # all of them wait to be started anew
    assert [fold.process.partitions for fold in folds] == held
    group.valkey.start()
    until(group.is_done, WAIT_S)
    assert [fold.process.partitions for fold in folds] == held
    group.assert_exactly_once()
