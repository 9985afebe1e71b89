"""A Redis Cluster of three masters for tests, from the program that the embedded service runs."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import redis

from loadtest.ports import free_ports
from service.embedded import valkey as embedded_valkey
from tests.service.servers import until

SLOTS = 16384
MASTERS = 3


class RedisNode:
    """One server on a loopback port, with its append-only file in `folder`; started, killed and started again."""

    def __init__(self, folder: Path, port: int, program: str | None = None, **options: str) -> None:
        """`options` are the server's own, with `_` for `-`; `program` is another than the embedded service's."""
        self.folder, self.port = folder, port
        self._program = program or embedded_valkey.program()
        self._options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(folder),
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "logfile": str(folder / "server.log"),
        } | {name.replace("_", "-"): value for name, value in options.items()}
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

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
        with redis.Redis(port=self.port, socket_timeout=10) as client:
            yield client

    def info(self) -> dict[str, Any]:
        """What it knows of its cluster; {} while it does not answer."""
        with self.client() as client, suppress(redis.RedisError):
            return cast(dict[str, Any], client.cluster("INFO"))
        return {}


class RedisCluster:
    """Three masters, a third of the slots each."""

    def __init__(self, folder: Path) -> None:
        # The port of a cluster's bus is the server's and 10,000 more, unless it is told.
        ports = free_ports(2 * MASTERS)
        self.nodes = [
            RedisNode(
                folder / str(port),
                port,
                cluster_enabled="yes",
                cluster_port=str(bus),
                cluster_node_timeout="2000",
                maxmemory_policy="noeviction",
            )
            for port, bus in zip(ports[:MASTERS], ports[MASTERS:], strict=True)
        ]
        self._buses = ports[MASTERS:]

    @property
    def url(self) -> str:
        """All of the nodes, so that any may be down."""
        return "redis://" + ",".join(f"127.0.0.1:{node.port}" for node in self.nodes)

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
        until(lambda: all(node.info()["cluster_known_nodes"] == str(MASTERS) for node in self.nodes))

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
