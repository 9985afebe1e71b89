"""The world of verification's tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from service.settings import Settings
from service.store.redis import Store
from tests.service.verification.world import World


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def valkey(request: pytest.FixtureRequest) -> str:
    """The URL of one Redis, and of a Redis Cluster."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("single_valkey"))


@pytest.fixture
def world(tmp_path: Path, store: Store, settings: Callable[..., Settings]) -> Iterator[World]:
    """An empty log and an empty Valkey."""
    world = World(tmp_path / "world", store, settings)
    yield world
    world.close()


@pytest.fixture
def folded(world: World) -> World:
    """120 records, all folded."""
    world.write_some(120)
    world.fold()
    return world
