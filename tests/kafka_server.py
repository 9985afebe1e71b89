"""A real Apache Kafka broker for tests, run by deploy/kafka/start."""

import logging
import os
import random
import socket
import subprocess
import time
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

import pytest
from kafka.admin import KafkaAdminClient

from tests.certificates import Certificates

# As in the service. What pytest keeps of an outage's log would keep its sockets, too.
logging.getLogger("kafka").setLevel(logging.CRITICAL)
START = Path(__file__).parents[1] / "deploy" / "kafka" / "start"
READY_SECONDS = 60.0
STOP_SECONDS = 30.0
ADMIN = "admin"
USERS = {ADMIN: "administers", "alice": "let me in"}


class KafkaServer:
    """One broker on 127.0.0.1, with its data and log in `folder`."""

    def __init__(
        self,
        folder: Path,
        listener: str = "PLAINTEXT",
        properties: str = "",
        security: Mapping[str, str] | None = None,
    ) -> None:
        """`properties` are added to the broker's; `security` is what a client must say to be let in."""
        self._listener = listener
        self._properties = properties
        self.security = {"security_protocol": listener, **(security or {})}
        self._data = folder / "kafka"
        self._log = folder / "kafka.log"
        self._port: int | None = None
        self._process: subprocess.Popen[bytes] | None = None

    @staticmethod
    @cache
    def available() -> str | None:
        """None if a broker can run here, else what is missing. Downloads Kafka where that is not done yet."""
        fetched = subprocess.run([START, "--fetch"], capture_output=True, text=True, check=False)
        return None if fetched.returncode == 0 else fetched.stderr.strip()

    @classmethod
    def require(cls) -> None:
        """Skip the test where no broker can run, saying why and how to get one; fail it if KAFKA_REQUIRED is set."""
        if missing := cls.available():
            (pytest.fail if os.environ.get("KAFKA_REQUIRED") == "1" else pytest.skip)(missing)

    @property
    def bootstrap(self) -> str:
        """The broker's address, which it has before it is started, and keeps."""
        self._port = self._port or _free_port_pair()
        return f"127.0.0.1:{self._port}"

    def start(self) -> None:
        """Run the broker and return once it answers."""
        if self._process is not None:
            raise RuntimeError("the broker is already running")
        if missing := self.available():
            raise RuntimeError(missing)
        self._data.mkdir(parents=True, exist_ok=True)
        port = int(self.bootstrap.split(":")[1])
        properties = self._data / "more.properties"
        properties.write_text(self._properties)
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [START],
                env=os.environ
                | {
                    "KAFKA_PORT": str(port),
                    "KAFKA_CONTROLLER_PORT": str(port + 1),
                    "KAFKA_DATA": str(self._data),
                    "KAFKA_LISTENER": self._listener,
                    "KAFKA_PROPERTIES": str(properties),
                },
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            self._wait_until_ready(self._process)
        except BaseException:
            self.kill()
            raise

    def stop(self) -> None:
        """Shut the broker down in order."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.kill()
            raise
        self._process = None

    def kill(self) -> None:
        """End the broker at once, as a crash would."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        self._process = None

    def restart(self) -> None:
        """Run the broker again on its data and ports, whether it was stopped, killed or still runs."""
        self.stop()
        self.start()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_until_ready(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + READY_SECONDS
        # A client that cannot connect leaves its sockets open, so it is not made before the port is.
        while not self._accepts():
            if process.poll() is not None:
                raise RuntimeError(f"Kafka ended with code {process.returncode}:\n{self._log_tail()}")
            if time.monotonic() > deadline:
                raise RuntimeError(f"Kafka was not up after {READY_SECONDS:.0f} s:\n{self._log_tail()}")
            time.sleep(0.1)
        left_ms = max(1000, int((deadline - time.monotonic()) * 1000))
        with KafkaAdminClient(
            bootstrap_servers=self.bootstrap,
            bootstrap_timeout_ms=left_ms,
            request_timeout_ms=left_ms,
            **self.security,
        ) as admin:
            answered = admin.describe_cluster()["cluster_id"]
        if process.poll() is not None or answered != self._cluster_id():
            raise RuntimeError(f"another broker answers on {self.bootstrap}:\n{self._log_tail()}")

    def _accepts(self) -> bool:
        assert self._port is not None
        with socket.socket() as probe:
            return probe.connect_ex(("127.0.0.1", self._port)) == 0

    def _cluster_id(self) -> str | None:
        lines = (self._data / "metadata" / "meta.properties").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line).get("cluster.id")

    def _log_tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-40:])


def secured(folder: Path, certificates: Certificates) -> KafkaServer:
    """A broker that talks TLS alone and asks for a password: PLAIN takes USERS, SCRAM whom an administrator adds."""
    chain = folder / "broker.pem"
    folder.mkdir(parents=True, exist_ok=True)
    chain.write_text(certificates.chain)
    users = " ".join(f'user_{name}="{password}"' for name, password in USERS.items())
    admin = f'username="{ADMIN}" password="{USERS[ADMIN]}"'
    plain = "org.apache.kafka.common.security.plain.PlainLoginModule required"
    scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
    properties = {
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "sasl.mechanism.inter.broker.protocol": "PLAIN",
        "listener.name.sasl_ssl.plain.sasl.jaas.config": f"{plain} {admin} {users};",
        "listener.name.sasl_ssl.scram-sha-256.sasl.jaas.config": scram,
        "listener.name.sasl_ssl.scram-sha-512.sasl.jaas.config": scram,
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": str(chain),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": str(certificates.authority),
    }
    return KafkaServer(
        folder,
        "SASL_SSL",
        "".join(f"{name}={value}\n" for name, value in properties.items()),
        {
            "sasl_mechanism": "PLAIN",
            "sasl_plain_username": ADMIN,
            "sasl_plain_password": USERS[ADMIN],
            "ssl_cafile": str(certificates.authority),
        },
    )


def _free_port_pair() -> int:
    """A free port whose successor is free too, below the ports that the kernel gives to outgoing connections:
    there, a client that tries to reach a stopped broker could take the broker's own port.
    """
    for port in random.sample(range(20000, 30000, 2), k=100):
        try:
            with socket.socket() as first, socket.socket() as second:
                first.bind(("127.0.0.1", port))
                second.bind(("127.0.0.1", port + 1))
        except OSError:
            continue
        return port
    raise RuntimeError("no two free ports side by side")
