"""The loop, for tests of whatever takes part in it; a learner, and replicas that follow it."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import pytest

from bandit.bundle import Bundle
from bandit.lineage import Generation
from service import replica
from service.replica import Replica
from service.settings import Settings
from service.store.redis import Store
from tests.bundles import small_bundle
from tests.conftest import PARTITIONS, SHARDS
from tests.service.learner import Learner
from tests.service.loop import Loop
from tests.service.replicas import ARMS, FACTS, Held

MakeLoop = Callable[..., Loop]


@pytest.fixture(autouse=True)
def _in_a_hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    """A replica that is told to stop need not wait for news first."""
    monkeypatch.setattr(replica, "BLOCK_MS", 20)


@pytest.fixture(params=["server", pytest.param("cluster", marks=pytest.mark.cluster)])
def either_redis(request: pytest.FixtureRequest) -> str:
    """The URL of one Redis, and then of a Redis Cluster: for a module's own `valkey`."""
    if request.param == "cluster":
        return str(request.getfixturevalue("redis_cluster").url)
    return str(request.getfixturevalue("single_valkey"))


@pytest.fixture
def make_loop(valkey: str, store: Store, settings: Callable[..., Settings]) -> Iterator[MakeLoop]:
    """Starts the API with these settings, over an empty Valkey or the one at `redis_url`, with `served` published."""
    with ExitStack() as stack:

        def make(served: Bundle | None, redis_url: str = valkey, **changes: Any) -> Loop:
            chosen = settings(**{"shards": SHARDS, "partitions": PARTITIONS, "seed": 0} | changes)
            return stack.enter_context(Loop(chosen, redis_url, served))

        yield make


@pytest.fixture
def loop(make_loop: MakeLoop) -> Loop:
    """The API with a small bundle and the default settings."""
    return make_loop(small_bundle())


@pytest.fixture(scope="module")
def bundle() -> Bundle:
    return small_bundle()


@pytest.fixture
def held(valkey: str, store: Store) -> Held:
    return Held(valkey)


@pytest.fixture
def learner(store: Store, bundle: Bundle) -> Learner:
    return Learner(store, bundle)


@pytest.fixture
def follow(bundle: Bundle) -> Iterator[Callable[[Store], Replica]]:
    """Starts replicas."""
    started: list[Replica] = []

    def start(
        store: Store, facts: Mapping[str, int] = FACTS, bundle: Bundle = bundle, generations: Sequence[Generation] = ()
    ) -> Replica:
        started.append(Replica(bundle, ARMS, store, facts, generations))
        started[-1].start()
        return started[-1]

    yield start
    for following in started:
        following.stop()
