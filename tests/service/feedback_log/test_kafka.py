"""What Kafka alone has: passwords, certificates, brokers that go away. What both logs share is in test_contract.py."""

import gc
import threading
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import KafkaAdminClient, ScramMechanism, UserScramCredentialUpsertion

from service.feedback_log import kafka as module
from service.feedback_log.base import DeadLetter, LogUnavailable
from service.feedback_log.kafka import KafkaLog
from service.settings import Settings
from tests.certificates import Certificates
from tests.kafka_server import KafkaServer, secured
from tests.service.servers import until

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves sockets behind whose connection fails, or is closed while it is made.
    pytest.mark.filterwarnings("ignore:unclosed <s:ResourceWarning"),
]
PATIENCE_S = 30.0
OpenLog = Callable[..., KafkaLog]


def server(start: Callable[[], KafkaServer]) -> Iterator[KafkaServer]:
    KafkaServer.require()
    with start() as running:
        yield running
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates") / "ours")


@pytest.fixture(scope="module")
def secured_kafka(tmp_path_factory: pytest.TempPathFactory, certificates: Certificates) -> Iterator[KafkaServer]:
    yield from server(lambda: secured(tmp_path_factory.mktemp("secured"), certificates))


@pytest.fixture(scope="module")
def mortal_kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaServer]:
    yield from server(lambda: KafkaServer(tmp_path_factory.mktemp("mortal")))


@pytest.fixture
def open_log(settings: Callable[..., Settings]) -> Iterator[OpenLog]:
    """Opens logs; all are closed in the end."""
    opened: list[KafkaLog] = []

    def make(**where: Any) -> KafkaLog:
        opened.append(KafkaLog(settings(partitions=2, **where)))
        return opened[-1]

    yield make
    while opened:
        opened.pop().close()
    gc.collect()  # here, where they are expected, the sockets that kafka-python leaves behind do no harm


def alice(kafka: KafkaServer, certificates: Certificates, **changes: Any) -> dict[str, Any]:
    """Settings of somebody who is let in."""
    return {
        "kafka_bootstrap_servers": kafka.bootstrap,
        "kafka_security_protocol": "SASL_SSL",
        "kafka_username": "alice",
        "kafka_password": "let me in",
        "kafka_ca_file": certificates.authority,
        **changes,
    }


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_the_right_password_opens_everything(
    open_log: OpenLog, secured_kafka: KafkaServer, certificates: Certificates, mechanism: str
) -> None:
    if mechanism != "PLAIN":
        with KafkaAdminClient(bootstrap_servers=secured_kafka.bootstrap, **secured_kafka.security) as admin:
            scram = ScramMechanism[mechanism.replace("-", "_")]
            admin.alter_user_scram_credentials([UserScramCredentialUpsertion("alice", scram, b"let me in")])
    name = f"of-{mechanism.lower()}"
    topics = {"kafka_topic": name, "kafka_dead_letter_topic": f"{name}.dead", "kafka_group": name}
    log = open_log(**alice(secured_kafka, certificates, kafka_sasl_mechanism=mechanism, **topics))
    positions = [log.append(b"key", b"%d" % number).result(PATIENCE_S) for number in range(3)]
    partition = positions[0].partition
    assert [record.value for record in log.read(partition, 0, 10)] == [b"0", b"1", b"2"]
    log.dead_letter([DeadLetter(partition, 0, 0, "why", "", b"key", b"0")])
    assert len(log.epoch()) == 16

    followed: list[bytes] = []
    subscription = log.subscribe(lambda partitions: dict.fromkeys(partitions, 0), lambda _: None)

    def has_followed() -> bool:
        for records in subscription.poll(0.1, 10).values():
            followed.extend(record.value for record in records)
        return len(followed) == 3

    until(has_followed)
    subscription.close()
    assert followed == [b"0", b"1", b"2"]


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_wrong_password_is_told_and_does_not_appear(
    open_log: OpenLog, secured_kafka: KafkaServer, certificates: Certificates, mechanism: str
) -> None:
    wrong = alice(secured_kafka, certificates, kafka_sasl_mechanism=mechanism, kafka_password="mistyped")
    assert "mistyped" not in until_refused(open_log, "Authentication failed", wrong)


def test_brokers_of_an_unknown_authority_are_not_trusted(
    open_log: OpenLog, secured_kafka: KafkaServer, certificates: Certificates, tmp_path: Path
) -> None:
    others = Certificates(tmp_path / "others").authority
    for authority in (others, None):
        until_refused(
            open_log, "certificate verify failed", alice(secured_kafka, certificates, kafka_ca_file=authority)
        )


def until_refused(open_log: OpenLog, words: str, where: dict[str, Any]) -> str:
    """What is told to somebody who is not let in; on a busy machine a try may end before it comes that far."""
    told = ""

    def is_refused() -> bool:
        nonlocal told
        with pytest.raises(LogUnavailable) as refusal:
            open_log(**where)
        told = str(refusal.value)
        return words in told

    until(is_refused, 60)
    return told


def test_who_speaks_in_clear_is_not_let_in(open_log: OpenLog, secured_kafka: KafkaServer) -> None:
    with pytest.raises(LogUnavailable, match="Unable to bootstrap"):
        open_log(kafka_bootstrap_servers=secured_kafka.bootstrap)


def test_who_tries_until_brokers_come_leaves_nothing_behind(open_log: OpenLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """kafka-python's clients that cannot connect leave a thread each."""
    monkeypatch.setattr(module, "PATIENCE_MS", 100)
    for _ in range(3):
        with pytest.raises(LogUnavailable, match="ECONNREFUSED"):
            open_log(kafka_bootstrap_servers="127.0.0.1:1")
    assert not [
        thread.name for thread in threading.enumerate() if thread.name.startswith("kafka-io-kafka-python-admin")
    ]


def never_wait(log: KafkaLog, monkeypatch: pytest.MonkeyPatch) -> None:
    """Appending must not come to the place where kafka-python waits."""
    monkeypatch.setattr(log._producer, "_wait_on_metadata", lambda *_: pytest.fail("append waits"))


def test_appending_does_not_wait_for_a_topic_that_is_gone(
    open_log: OpenLog, mortal_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(kafka_bootstrap_servers=mortal_kafka.bootstrap, kafka_topic="gone", kafka_dead_letter_topic="gone.d")
    log.append(b"key", b"value").result(PATIENCE_S)
    never_wait(log, monkeypatch)
    with KafkaAdminClient(bootstrap_servers=mortal_kafka.bootstrap) as admin:
        admin.delete_topics(["gone"])

    def is_refused() -> bool:
        done = log.append(b"key", b"value")
        return done.done() and "do not know the topic gone" in str(done.exception())

    until(is_refused)
    with KafkaAdminClient(bootstrap_servers=mortal_kafka.bootstrap) as admin:
        admin.create_topics({"gone": {"num_partitions": 2, "replication_factor": 1}}, wait_for_metadata=True)
    until(lambda: not is_refused())


def test_appending_does_not_wait_for_brokers_that_are_away(
    open_log: OpenLog, mortal_kafka: KafkaServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = open_log(kafka_bootstrap_servers=mortal_kafka.bootstrap, kafka_topic="away", kafka_dead_letter_topic="away.d")
    never_wait(log, monkeypatch)  # neither for the first record
    log.append(b"key", b"first").result(PATIENCE_S)
    mortal_kafka.kill()
    taken = [log.append(b"key", b"%d" % number) for number in range(100)]
    assert not any(done.done() for done in taken)
    until(lambda: refused_at_once(log))
    mortal_kafka.start()
    positions = [done.result(PATIENCE_S) for done in taken]
    assert [position.offset for position in positions] == list(range(1, 101))
    until(lambda: log.append(b"key", b"again").exception(PATIENCE_S) is None)


def refused_at_once(log: KafkaLog) -> bool:
    done = log.append(b"other key", b"value")
    return done.done() and "does not acknowledge" in str(done.exception())
