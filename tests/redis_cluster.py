"""A Redis Cluster of three masters for tests, from the program that the embedded service runs."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self, cast
from urllib.parse import quote

import redis

from loadtest.ports import free_ports
from service.embedded import valkey as embedded_valkey
from tests.certificates import Certificates
from tests.service.servers import until

SLOTS = 16384
MASTERS = 3


class Secured(NamedTuple):
    """TLS alone, and a user with a password; `program` must have been built with TLS."""

    program: str
    certificates: Certificates
    user: str = "alice"
    password: str = "let me/in"

    def options(self, folder: Path, port: int) -> dict[str, str]:
        """The server's options."""
        folder.mkdir(parents=True, exist_ok=True)
        users = folder / "users.acl"
        secret = sha256(self.password.encode()).hexdigest()
        users.write_text(f"user default off\nuser {self.user} on #{secret} ~* &* +@all\n")
        return {
            "port": "0",
            "tls-port": str(port),
            "tls-cert-file": str(self.certificates.certificate),
            "tls-key-file": str(self.certificates.key),
            "tls-ca-cert-file": str(self.certificates.authority),
            "tls-auth-clients": "no",
            "tls-cluster": "yes",
            "aclfile": str(users),
        }

    def url(self, *hosts: str) -> str:
        """The URL of somebody who is let in."""
        credentials = f"{self.user}:{quote(self.password, safe='')}"
        return f"rediss://{credentials}@{','.join(hosts)}/0?ssl_ca_certs={self.certificates.authority}"


class RedisNode:
    """One server on a loopback port, with its append-only file in `folder`; started, killed and started again."""

    def __init__(self, folder: Path, port: int, secured: Secured | None = None, **options: str) -> None:
        """`options` are the server's own, with `_` for `-`."""
        self.folder, self.port = folder, port
        self._secured = secured
        self._program = secured.program if secured else embedded_valkey.program()
        self._options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "logfile": str(folder / "server.log"),
            **(secured.options(folder, port) if secured else {}),
        } | {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        host = f"127.0.0.1:{self.port}"
        return self._secured.url(host) if self._secured else f"redis://{host}"

    def start(self) -> None:
        """Run it; whether it answers yet is another question."""
        assert self._process is None
        self.folder.mkdir(parents=True, exist_ok=True)
        options = [part for name, value in self._options.items() for part in (f"--{name}", value)]
        self._process = subprocess.Popen([self._program, *options], stdout=subprocess.DEVNULL)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    @contextmanager
    def client(self) -> Iterator[Any]:
        """A client of this server alone."""
        with redis.Redis.from_url(self.url, socket_timeout=10) as client:
            yield client

    def answers(self) -> bool:
        """Whether it serves."""
        with self.client() as client, suppress(redis.ConnectionError):
            return bool(client.ping())
        return False

    def has_ended(self) -> bool:
        """Whether it ended by itself."""
        return self._process is not None and self._process.poll() is not None

    def info(self) -> dict[str, Any]:
        """What it knows of its cluster; {} while it does not answer."""
        with self.client() as client, suppress(redis.RedisError):
            return cast(dict[str, Any], client.cluster("INFO"))
        return {}


class RedisCluster:
    """Three masters, a third of the slots each."""

    def __init__(self, folder: Path, secured: Secured | None = None) -> None:
        self._secured = secured
        # The port of a cluster's bus is the server's and 10,000 more, unless it is told.
        ports = free_ports(2 * MASTERS)
        self.nodes = [
            RedisNode(
                folder / str(port),
                port,
                secured,
                cluster_enabled="yes",
                cluster_port=str(bus),
                cluster_node_timeout="10000",  # a busy machine must not look like a dead node
                maxmemory_policy="noeviction",
            )
            for port, bus in zip(ports[:MASTERS], ports[MASTERS:], strict=True)
        ]
        self._buses = ports[MASTERS:]

    @property
    def url(self) -> str:
        """All of the nodes, so that any may be down."""
        hosts = [f"127.0.0.1:{node.port}" for node in self.nodes]
        return self._secured.url(*hosts) if self._secured else f"redis://{','.join(hosts)}"

    def start(self) -> None:
        """Run the masters, give them their slots, make them known to each other, and wait until all agree."""
        for node in self.nodes:
            node.start()
        for number, node in enumerate(self.nodes):
            until(node.info)
            with node.client() as client:
                first, following = (SLOTS * at // MASTERS for at in (number, number + 1))
                client.execute_command("CLUSTER ADDSLOTSRANGE", first, following - 1)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                client.execute_command("CLUSTER MEET", "127.0.0.1", self.nodes[0].port, self._buses[0])
        self.wait()

    def wait(self) -> None:
        """Wait until every node says that the cluster is whole."""
        until(lambda: all(node.info().get("cluster_state") == "ok" for node in self.nodes))
        until(lambda: all(node.info().get("cluster_known_nodes") == str(MASTERS) for node in self.nodes))

    def holder(self, key: str) -> int:
        """Which node holds a key."""
        with self.nodes[0].client() as client:
            slot = client.cluster("KEYSLOT", key)
            for first, last, (_, port, *_), *_ in client.execute_command("CLUSTER SLOTS"):
                if first <= slot <= last:
                    return [node.port for node in self.nodes].index(port)
        raise LookupError(f"nobody holds {key}")

    def move(self, key: str, target: int) -> None:
        """Move the slot of a key, and all that lies in it, to another node, as the server's own tools do it."""
        source = self.holder(key)
        with self.nodes[source].client() as here, self.nodes[target].client() as there:
            slot = here.cluster("KEYSLOT", key)
            here_id, there_id = (client.execute_command("CLUSTER MYID").decode() for client in (here, there))
            there.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", here_id)
            here.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", there_id)
            while keys := here.execute_command("CLUSTER GETKEYSINSLOT", slot, 100):
                here.execute_command("MIGRATE", "127.0.0.1", self.nodes[target].port, "", 0, 10_000, "KEYS", *keys)
            there.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)
            here.execute_command("CLUSTER SETSLOT", slot, "NODE", there_id)
        until(lambda: self.holder(key) == target)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            node.kill()
