"""The broker that the Kafka tests run on is a real one: what it was given survives a crash."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import KafkaAdminClient

from tests.kafka_server import KafkaServer

pytestmark = pytest.mark.kafka

TOPIC = "feedback"


@pytest.fixture
def server(tmp_path: Path) -> Iterator[KafkaServer]:
    KafkaServer.require()
    with KafkaServer(tmp_path) as running:
        yield running


def create_topic(bootstrap: str) -> None:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        admin.create_topics({TOPIC: {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)


def partitions(bootstrap: str) -> list[int]:
    with KafkaAdminClient(bootstrap_servers=bootstrap) as admin:
        (topic,) = admin.describe_topics([TOPIC])
    return sorted(partition["partition_index"] for partition in topic["partitions"])


def append(bootstrap: str, value: bytes, partition: int) -> int:
    with KafkaProducer(bootstrap_servers=bootstrap) as producer:
        offset: int = producer.send(TOPIC, value, partition=partition).get(timeout=10).offset
    return offset


def read(bootstrap: str, partition: int) -> list[tuple[int, bytes]]:
    place = TopicPartition(TOPIC, partition)
    with KafkaConsumer(bootstrap_servers=bootstrap, auto_offset_reset="none") as consumer:
        consumer.assign([place])
        consumer.seek(place, 0)
        return [(record.offset, record.value) for record in consumer.poll(timeout_ms=10_000).get(place, [])]


def test_a_record_survives_a_crash(server: KafkaServer) -> None:
    create_topic(server.bootstrap)
    assert append(server.bootstrap, b"first", partition=1) == 0
    address = server.bootstrap

    server.kill()
    server.restart()

    assert server.bootstrap == address
    assert partitions(server.bootstrap) == [0, 1]
    assert read(server.bootstrap, partition=1) == [(0, b"first")]
    assert append(server.bootstrap, b"second", partition=1) == 1


def test_a_running_server_is_restarted_in_order(server: KafkaServer) -> None:
    create_topic(server.bootstrap)
    append(server.bootstrap, b"kept", partition=0)

    server.restart()

    assert read(server.bootstrap, partition=0) == [(0, b"kept")]


def test_two_servers_do_not_answer_for_each_other(server: KafkaServer, tmp_path: Path) -> None:
    with KafkaServer(tmp_path / "other") as other:
        assert other.bootstrap != server.bootstrap
        create_topic(server.bootstrap)
        with KafkaAdminClient(bootstrap_servers=other.bootstrap) as admin:
            assert TOPIC not in admin.list_topics()


def test_a_second_broker_on_the_same_data_is_refused(server: KafkaServer, tmp_path: Path) -> None:
    create_topic(server.bootstrap)
    append(server.bootstrap, b"unharmed", partition=0)

    with pytest.raises(RuntimeError, match="Failed to acquire lock"):
        KafkaServer(tmp_path).start()

    assert read(server.bootstrap, partition=0) == [(0, b"unharmed")]
