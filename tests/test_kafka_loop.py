"""The whole loop over a real Apache Kafka: the API here, the fold as its own process, producers beside them."""

import gc
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from threading import Timer
from typing import Any

import httpx2
import orjson
import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from loadtest.ports import free_ports
from service import serving
from service.feedback_log.base import partition_of
from service.settings import Settings
from service.store.keys import Keys, watermark_field
from service.store.redis import Store, connect
from tests.bundles import small_bundle
from tests.kafka_server import KafkaServer
from tests.service.loop import Loop
from tests.service.servers import PrivateValkey, environment, until
from tests.service.single_pass import whole_log

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves sockets behind whose connection fails, or is closed while it is made.
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]

PARTITIONS = 3
WAIT_S = 60.0


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    KafkaServer.require()
    with KafkaServer(tmp_path_factory.mktemp("kafka")) as server:
        yield server
    # Here, too, are sockets that kafka-python has left behind: at the session's end nobody would overlook them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def valkey_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with PrivateValkey(tmp_path_factory.mktemp("valkey")) as server:
        yield server.url


class Cluster:
    """The loop of one topic: an API here, a fold beside it, its dead letters in a topic of their own."""

    def __init__(self, topic: str, kafka: KafkaServer, valkey_url: str, folder: Path) -> None:
        self.topic, self.bootstrap = topic, kafka.bootstrap
        names: dict[str, Any] = {
            "environment": "development",
            "kafka_bootstrap_servers": kafka.bootstrap,
            "kafka_topic": topic,
            "kafka_dead_letter_topic": f"{topic}.dead-letter",
            "kafka_group": topic,
            "key_prefix": topic,
            "partitions": PARTITIONS,
            "shards": 4,
            "state_folder": folder / "state",
            "bundles": str(folder / "bundles"),
            "token_keys": {1: "a secret"},
            "pseudonym_key": "another",
        }
        self.loop = Loop(Settings(_env_file=None, **names), valkey_url, small_bundle())
        self.store = Store(connect(valkey_url), Keys(topic, 4))
        (self.fold_port,) = free_ports(1)
        self.fold_log = folder / "fold.log"
        plain = {name.upper(): str(value) for name, value in names.items()}
        self._environment = environment(
            plain | {"TOKEN_KEYS": '{"1": "a secret"}', "REDIS_URL": valkey_url, "FOLD_PORT": str(self.fold_port)}
        )
        self._fold: subprocess.Popen[bytes] | None = None

    def start_fold(self) -> None:
        with self.fold_log.open("ab") as log:
            self._fold = subprocess.Popen(
                [sys.executable, "-m", "service", "fold"], env=self._environment, stdout=log, stderr=log
            )

    def stop_fold(self) -> None:
        assert self._fold is not None
        self._fold.terminate()
        try:
            self._fold.wait(30)
        finally:
            self._fold.kill()
            self._fold.wait()

    def fold_metric(self, name: str) -> float | None:
        try:
            text = httpx2.get(f"http://127.0.0.1:{self.fold_port}/metrics").text
        except httpx2.TransportError:
            return None
        return next((float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(f"{name} ")), None)

    def slate(self) -> dict[str, Any]:
        return self.loop.recommend(user_id="user-0", limit=3)

    def rewards(self, slate: dict[str, Any]) -> float:
        """What has been learned of a slate's first item."""
        state = self.loop.item(slate["items"][0]["item_id"], view="state")["state"][0]
        return float(state["rewards"])

    def learns(self, slate: dict[str, Any], send: Any) -> None:
        """Whether a click that is sent this way is learned by itself."""
        before = self.rewards(slate)
        send([shown(slate), clicked(slate)])
        until(lambda: self.rewards(slate) > before, WAIT_S)

    def post(self, said: object) -> httpx2.Response:
        return self.loop.client.post("/v1/events", json=said)

    def produce(self, said: object, slate: dict[str, Any], partition: int | None = None) -> None:
        """Straight into the topic, keyed by the recommendation, as any producer does it."""
        with KafkaProducer(bootstrap_servers=self.bootstrap) as producer:
            key = slate["recommendation_id"].encode()
            producer.send(self.topic, orjson.dumps(said), key, partition=partition).get(timeout=20)

    def dead_letters(self) -> list[Any]:
        at = TopicPartition(f"{self.topic}.dead-letter", 0)
        with KafkaConsumer(bootstrap_servers=self.bootstrap, auto_offset_reset="none") as consumer:
            consumer.assign([at])
            consumer.seek_to_beginning(at)
            return list(consumer.poll(timeout_ms=2000).get(at, []))

    def __enter__(self) -> "Cluster":
        self.loop.__enter__()
        self.start_fold()
        return self

    def __exit__(self, *failure: Any) -> None:
        self.stop_fold()
        self.loop.__exit__(*failure)
        self.store.close()
        if failure[0] is not None:
            print(self.fold_log.read_text())


@pytest.fixture(scope="module")
def cluster(kafka: KafkaServer, valkey_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster("loop", kafka, valkey_url, tmp_path_factory.mktemp("loop")) as cluster:
        yield cluster


def shown(slate: dict[str, Any]) -> dict[str, Any]:
    return {"type": "impression", "attribution_token": slate["attribution_token"]}


def clicked(slate: dict[str, Any]) -> dict[str, Any]:
    item_id = slate["items"][0]["item_id"]
    return {"type": "reward", "attribution_token": slate["attribution_token"], "item_id": item_id}


def test_what_is_posted_is_learned(cluster: Cluster) -> None:
    slate = cluster.slate()

    def send(said: object) -> None:
        answer = cluster.post(said)
        assert (answer.status_code, answer.json()["events"]) == (202, [{"verdict": "accepted"}] * 2)

    cluster.learns(slate, send)
    assert cluster.loop.client.get("/health/ready").json()["status"] == "ready"


def test_what_is_produced_straight_into_kafka_is_learned(cluster: Cluster) -> None:
    slate = cluster.slate()
    cluster.learns(slate, lambda said: cluster.produce(said, slate))
    once = cluster.rewards(slate)
    duplicates = cluster.store.totals().get("duplicates", 0)
    assert cluster.post([shown(slate), clicked(slate)]).status_code == 202
    until(lambda: cluster.store.totals().get("duplicates", 0) == duplicates + 3 + 1, WAIT_S)
    assert cluster.rewards(slate) == once


def test_a_record_in_the_wrong_partition_is_a_dead_letter(cluster: Cluster) -> None:
    slate = cluster.slate()
    home = partition_of(slate["recommendation_id"].encode(), PARTITIONS)
    before = len(cluster.dead_letters())
    cluster.produce(shown(slate), slate, partition=(home + 1) % PARTITIONS)
    until(lambda: len(cluster.dead_letters()) == before + 1, WAIT_S)
    letter = cluster.dead_letters()[-1]
    assert dict(letter.headers)["reason"] == b"record key or partition is not the token's"
    assert orjson.loads(letter.value) == shown(slate)
    assert cluster.loop.serving.epoch is not None
    assert letter.key.decode().startswith(f"{cluster.loop.serving.epoch.hex()}:{(home + 1) % PARTITIONS}:")
    cluster.learns(slate, cluster.post)


def test_without_a_broker_events_are_sent_back_and_recommendations_go_on(cluster: Cluster, kafka: KafkaServer) -> None:
    slate = cluster.slate()
    kafka.kill()
    for _ in range(3):
        answer = cluster.post(clicked(slate))
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["events"][0]["verdict"] == "retry"
        assert len(cluster.slate()["items"]) == 3
    until(lambda: cluster.loop.client.get("/health/ready").json()["status"] == "degraded", WAIT_S)

    kafka.start()
    until(lambda: cluster.post(clicked(slate)).status_code == 202, WAIT_S)
    until(lambda: cluster.loop.client.get("/health/ready").json()["status"] == "ready", WAIT_S)
    fresh = cluster.slate()
    cluster.learns(fresh, cluster.post)


def test_what_was_accepted_while_the_broker_died_is_in_the_log(cluster: Cluster, kafka: KafkaServer) -> None:
    """A list of many requests' events, again and again: some are acknowledged, some are not, each is told apart."""
    accepted: set[str] = set()
    told = 0

    def post() -> int:
        nonlocal told
        slates = [cluster.slate() for _ in range(40)]
        answer = cluster.post([clicked(slate) for slate in slates])
        verdicts = [event["verdict"] for event in answer.json()["events"]]
        assert answer.status_code == (503 if "retry" in verdicts else 202)
        assert set(verdicts) <= {"accepted", "retry"}
        accepted.update(
            slate["recommendation_id"] for slate, verdict in zip(slates, verdicts, strict=True) if verdict == "accepted"
        )
        told += len(verdicts)
        return answer.status_code

    dies = Timer(0.3, kafka.kill)
    dies.start()
    until(lambda: post() == 503, WAIT_S)
    dies.join()
    kafka.start()
    until(lambda: post() == 202, WAIT_S)
    log = cluster.loop.serving.log
    assert log is not None
    kept = {record.key.decode() for records in whole_log(log).values() for record in records}
    assert accepted <= kept
    assert 0 < len(accepted) < told


def test_a_topic_made_anew_is_told_apart(
    kafka: KafkaServer, valkey_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serving, "CHECK_LOG_EVERY_S", 0.2)
    with Cluster("anew", kafka, valkey_url, tmp_path) as cluster:
        old = cluster.slate()
        cluster.learns(old, cluster.post)
        epoch = cluster.loop.serving.epoch
        assert epoch is not None

        with KafkaAdminClient(bootstrap_servers=kafka.bootstrap) as admin:
            admin.delete_topics(["anew"])
            until(lambda: "anew" not in admin.list_topics())
            topic = {
                "num_partitions": PARTITIONS,
                "replication_factor": 1,
                "configs": {"message.timestamp.type": "LogAppendTime"},
            }
            admin.create_topics({"anew": topic}, wait_for_metadata=True)
        until(lambda: cluster.loop.serving.epoch != epoch, WAIT_S)

        refused = cluster.post(shown(old))
        assert refused.status_code == 422
        assert refused.json()["events"][0]["reason"] == "token of another log epoch"
        until(
            lambda: all(cluster.fold_metric(f'om_fold_stopped{{partition="{p}"}}') == 1 for p in range(PARTITIONS)),
            WAIT_S,
        )
        assert "the feedback log was made anew: its epoch changed" in cluster.fold_log.read_text()

        fresh = cluster.slate()
        before = cluster.rewards(fresh)
        assert cluster.post(clicked(fresh)).status_code == 202
        cluster.stop_fold()
        cluster.start_fold()  # an operator has looked at it
        until(lambda: cluster.rewards(fresh) > before, WAIT_S)
        home = partition_of(fresh["recommendation_id"].encode(), PARTITIONS)
        new = cluster.loop.serving.epoch
        assert new is not None
        assert cluster.store.client.hget(cluster.store.keys.watermarks(0), watermark_field(new, home)) == b"1"
