"""The store's tests run against one Redis and against a Redis Cluster."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from loadtest.ports import free_ports
from service.embedded import valkey as embedded_valkey
from tests.certificates import Certificates
from tests.redis_cluster import RedisNode, Secured
from tests.service.servers import until


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def valkey(request: pytest.FixtureRequest) -> str:
    """The URL of either."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("single_valkey"))


@pytest.fixture
def single_tcp(tmp_path: Path) -> Iterator[str]:
    """Host and port of one server."""
    (port,) = free_ports(1)
    node = RedisNode(tmp_path / "single", port)
    node.start()
    until(node.answers)
    yield f"127.0.0.1:{port}"
    node.kill()


@pytest.fixture(scope="session")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Secured:
    """How servers are run that talk TLS and ask for a password, where a program can."""
    folder = tmp_path_factory.mktemp("secured")
    certificates = Certificates(folder / "certificates")
    for program in (embedded_valkey.program(), shutil.which("valkey-server"), shutil.which("redis-server")):
        if program is not None and talks_tls(secured := Secured(program, certificates), folder):
            return secured
    pytest.skip("no valkey-server or redis-server with TLS on the PATH: Debian's redis-server package has one")


def talks_tls(secured: Secured, folder: Path) -> bool:
    (port,) = free_ports(1)
    node = RedisNode(folder / str(port), port, secured)
    node.start()
    until(lambda: node.has_ended() or node.answers())
    talks = not node.has_ended()
    node.kill()
    return talks
