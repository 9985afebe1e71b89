"""What is put to the test: Kafka, one Redis or a cluster of them, folds and an API, each a process of its own."""

import json
from functools import partial
from pathlib import Path
from typing import Any, Self

import httpx2
from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from loadtest.ports import free_ports
from service.feedback_log import open_log
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.chaos import world as worlds
from tests.chaos.processes import Part
from tests.chaos.redis_server import AppendOnlyFile, is_up
from tests.chaos.system import Place
from tests.kafka_server import KafkaServer
from tests.redis_cluster import RedisCluster, RedisNode
from tests.service.servers import environment, until

FOLDS = 4
PARTITIONS = 16
SHARDS = 8
SESSION_S = 6
ARMS = [{"name": name, "namespace": name} for name in worlds.NAMESPACES]
WAIT_S = 90.0


class Deployment:
    """Entering starts everything, with the first bundle pinned and the second one published."""

    secrets = worlds.SECRETS
    pseudonyms = worlds.PSEUDONYMS

    def __init__(self, folder: Path, window: int, *, cluster: bool) -> None:
        """`window` is N; `cluster` asks for a Redis Cluster of three masters."""
        self.folder = folder
        self._cluster = RedisCluster(folder / "redis") if cluster else None
        self.nodes = self._cluster.nodes if self._cluster else [_alone(folder / "redis")]
        self.redis_url = self._cluster.url if self._cluster else self.nodes[0].url
        self.kafka = KafkaServer(folder / "kafka")
        self._names = {
            "partitions": PARTITIONS,
            "shards": SHARDS,
            "window_records": window,
            "bundles": str(folder / "bundles"),
            "state_folder": str(folder / "state"),
            "kafka_session_s": SESSION_S,
        }
        (self._port,) = free_ports(1)
        self.url = f"http://127.0.0.1:{self._port}"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _start(self) -> None:
        self.parts: list[Part] = []
        self.kafka.start()
        if self._cluster:
            self._cluster.start()
        else:
            self.nodes[0].start()
        for node in self.nodes:
            until(partial(is_up, node))
        self.files = [AppendOnlyFile(node.folder) for node in self.nodes]
        worlds.publish(worlds.first_bundle(), str(self._names["bundles"]))
        names = {**self._names, "kafka_bootstrap_servers": self.kafka.bootstrap}
        self.settings = Settings(
            _env_file=None,
            token_keys=self.secrets,
            pseudonym_key=self.pseudonyms,
            **names,  # type: ignore[arg-type]
        )
        self.log = open_log(self.settings)
        self.epoch = self.log.epoch()
        self._producer = KafkaProducer(
            bootstrap_servers=self.kafka.bootstrap,
            acks="all",
            enable_idempotence=True,
            delivery_timeout_ms=10**9,
            max_block_ms=10**8,
            linger_ms=5,
        )
        told = {name.upper(): str(value) for name, value in names.items()} | {
            "TOKEN_KEYS": json.dumps(self.secrets),
            "PSEUDONYM_KEY": self.pseudonyms,
            "ARMS": json.dumps(ARMS),
            "REDIS_URL": self.redis_url,
            "PORT": str(self._port),
            "FOLD_PORT": "0",
            "LOG_FORMAT": "json",
        }
        self.folds = [Part(f"fold-{number}", "fold", environment(told), self.folder) for number in range(FOLDS)]
        self._api = Part("api", "api", environment(told), self.folder)
        self.parts = [*self.folds, self._api]
        for part in self.parts:
            part.start()
        until(self.is_ready, WAIT_S)
        self.activate(worlds.FIRST)
        worlds.publish(worlds.second_bundle(), str(self._names["bundles"]))

    def __exit__(self, *failure: Any) -> None:
        for part in self.parts:
            part.kill()
        for file in getattr(self, "files", []):
            file.stop()
        for node in self.nodes:
            node.kill()
        if hasattr(self, "_producer"):
            self._producer.close(timeout=1)
            self.log.close()
        self.kafka.kill()

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        """Append a record, whenever the broker takes it."""
        self._producer.send(self.settings.kafka_topic, value, key, partition=partition)

    def flush(self) -> None:
        """Wait until the broker has all that was sent."""
        self._producer.flush(timeout=WAIT_S)

    def store(self) -> Store:
        """A store of its own; its owner closes it."""
        return Store(connect(self.redis_url), Keys(self.settings.key_prefix, SHARDS))

    def is_ready(self) -> bool:
        """Whether the API has everything it depends on."""
        try:
            return bool(httpx2.get(f"{self.url}/health/ready", timeout=5).json()["status"] == "ready")
        except (httpx2.TransportError, ValueError):
            return False

    def activate(self, version: str) -> None:
        """Let the servers serve a bundle; asked again where they cannot do it now."""
        until(lambda: self._activated(version), WAIT_S)

    def dead_letters(self) -> set[Place]:
        """The distinct places of all dead letters: partition, offset, index in the record."""
        at = TopicPartition(self.settings.kafka_dead_letter_topic, 0)
        found: set[Place] = set()
        with KafkaConsumer(bootstrap_servers=self.kafka.bootstrap, auto_offset_reset="none") as consumer:
            consumer.assign([at])
            consumer.seek_to_beginning(at)
            end = consumer.end_offsets([at])[at]
            while consumer.position(at) < end:
                for letter in consumer.poll(timeout_ms=1000).get(at, []):
                    _, partition, offset, event = letter.key.decode().split(":")
                    found.add((int(partition), int(offset), int(event)))
        return found

    def died(self) -> list[str]:
        """Parts that ended by themselves, which nothing may make them do."""
        return [f"{part.name} ended with {part.died}" for part in self.parts if part.died]

    def fold_logs(self) -> list[Path]:
        """What the folds told."""
        return [fold.log for fold in self.folds]

    def _activated(self, version: str) -> bool:
        try:
            return httpx2.post(f"{self.url}/v1/bundles/{version}:activate", timeout=10).status_code == 200
        except httpx2.TransportError:
            return False


def _alone(folder: Path) -> RedisNode:
    (port,) = free_ports(1)
    return RedisNode(folder, port, maxmemory_policy="noeviction", auto_aof_rewrite_percentage="0")
