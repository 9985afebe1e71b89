"""The embedded service put to the test: `python -m service` with its SQLite log and its private Valkey."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

import httpx2
import psutil

from service.embedded import valkey
from service.feedback_log.sqlite import SqliteLog
from service.settings import Settings
from service.store.keys import Keys
from service.store.redis import Store, connect
from tests.chaos import world as worlds
from tests.chaos.deployment import ARMS, WAIT_S
from tests.chaos.plan import Round
from tests.chaos.redis_server import AppendOnlyFile
from tests.chaos.rollback import rolled_back
from tests.chaos.system import Place
from tests.service.servers import LocalService, until

PARTITIONS = 8
PLAN: Sequence[tuple[int, Round]] = (
    (3, {"fold": 1}),
    (2, {"redis": 1}),
    (2, {"fold": 1, "redis": 1}),
    (3, {"power": 1}),
    (5, {"zombie": 1}),
    (1, {"activate": 1}),
)


class Embedded:
    """Entering starts the service, with the first bundle pinned and the second one published."""

    def __init__(self, folder: Path, window: int) -> None:
        """`window` is N."""
        self.folder = folder
        self.service = LocalService(
            folder,
            PARTITIONS=str(PARTITIONS),
            WINDOW_RECORDS=str(window),
            TOKEN_KEYS=json.dumps(worlds.SECRETS),
            PSEUDONYM_KEY=worlds.PSEUDONYMS,
            ARMS=json.dumps(ARMS),
            LOG_FORMAT="json",
            FOLD_PORT="0",  # a fold that sleeps would keep the port from the one that takes over
            VERIFY_EVERY_S="0",
        )
        self.url = f"http://127.0.0.1:{self.service.port}"
        self.settings = Settings(
            _env_file=None,
            bundles=str(self.service.bundles),
            state_folder=self.service.state,
            partitions=PARTITIONS,
            window_records=window,
        )

    def __enter__(self) -> Self:
        worlds.publish(worlds.first_bundle(), str(self.service.bundles))
        self.log = SqliteLog(self.settings.feedback_database, PARTITIONS, self.settings.log_retention_s)
        self.epoch = self.log.epoch()
        self.service.__enter__()
        self.file = AppendOnlyFile(self.service.state)
        self.activate(worlds.FIRST)
        worlds.publish(worlds.second_bundle(), str(self.service.bundles))
        return self

    def __exit__(self, *failure: Any) -> None:
        self.file.stop()
        self.service.__exit__(None, None, None)
        self.log.close()

    def send(self, key: bytes, value: bytes, partition: int) -> None:
        """Append a record to its own partition, whichever is asked for."""
        self._last = self.log.append(key, value)

    def flush(self) -> None:
        """Wait until the log has all that was sent."""
        self._last.result(WAIT_S)

    def store(self) -> Store:
        return Store(connect(valkey.url(self.service.state)), Keys(self.settings.key_prefix, self.settings.shards))

    def activate(self, version: str) -> None:
        until(lambda: self._activated(version), WAIT_S)

    def dead_letters(self) -> set[Place]:
        return {(letter.partition, letter.offset, letter.event) for letter in self.log.dead_letters()}

    def fold_logs(self) -> list[Path]:
        return [self.folder / "service.log"]

    def died(self) -> list[str]:
        """The supervisor starts its parts again; whether it ended itself is asked all the time."""
        return []

    def _activated(self, version: str) -> bool:
        try:
            return httpx2.post(f"{self.url}/v1/bundles/{version}:activate", timeout=10).status_code == 200
        except httpx2.TransportError:
            return False


class EmbeddedFaults:
    """Kills parts of the embedded service, or all of it at once."""

    def __init__(self, embedded: Embedded, seed: int) -> None:
        self.kills: Counter[str] = Counter()
        self.killed_at: list[tuple[str, float]] = []
        self.rolled_back = 0
        self.version = worlds.FIRST
        self._embedded, self._service = embedded, embedded.service
        self._store = embedded.store()
        self._chance = random.Random(seed)
        self._zombies: list[psutil.Process] = []

    def happen(self, kind: str, many: int) -> None:
        getattr(self, f"_{kind}")()

    def look(self) -> None:
        assert self._supervisor.poll() is None, "the service ended by itself"

    def calm(self) -> None:
        """Nobody sleeps any more. Redis may have forgotten what is active: say it again."""
        self._embedded.activate(self.version)

    def close(self) -> None:
        for zombie in self._zombies:
            with suppress(psutil.NoSuchProcess):
                zombie.kill()
        self._store.close()

    @property
    def _supervisor(self) -> psutil.Popen:
        assert self._service.process is not None
        return self._service.process

    def _note(self, *kinds: str) -> None:
        self.kills.update(kinds)
        self.killed_at += [(kind, time.time()) for kind in kinds]

    def _fold(self) -> None:
        self._note("fold")
        self._part("fold").kill()

    def _redis(self) -> None:
        """Kill the Valkey; its supervisor waits until its file is cut."""
        server = self._part("valkey")
        self._supervisor.send_signal(signal.SIGSTOP)
        try:
            self._note("redis")
            self._kill_redis(server)
        finally:
            self._supervisor.send_signal(signal.SIGCONT)

    def _power(self) -> None:
        """The machine's power is cut: everything dies at once, and Valkey forgets its last second."""
        self._part("valkey")
        parts = self._service.parts()
        self._note("fold", "redis")
        self._supervisor.kill()
        server = parts.pop("valkey")
        for part in parts.values():
            part.kill()
        self._kill_redis(server)
        self._supervisor.wait()
        self._service.start(WAIT_S)

    def _zombie(self) -> None:
        """A fold sleeps, while it works, through the death of the service; a new one takes over; then it wakes."""
        fold = self._part("fold")
        fold.suspend()
        time.sleep(1.5)  # something to catch up with
        fold.resume()
        time.sleep(self._chance.uniform(0.01, 0.06))
        fold.suspend()
        self._note("zombie")
        self._zombies.append(fold)
        api = self._part("api")
        self._supervisor.kill()
        api.kill()
        self._supervisor.wait()
        self._service.start(WAIT_S)
        fold.resume()

    def _activate(self) -> None:
        self._embedded.activate(worlds.SECOND)
        self.version = worlds.SECOND

    def _part(self, name: str) -> psutil.Process:
        until(lambda: name in self._service.parts())
        return self._service.parts()[name]

    def _kill_redis(self, server: psutil.Process) -> None:
        def kill() -> None:
            server.kill()
            until(lambda: not server.is_running() or server.status() == psutil.STATUS_ZOMBIE)

        number = self.kills["redis"]
        copy = self._embedded.folder / f"copy-{number}"
        embedded = self._embedded
        self.rolled_back += rolled_back(self._store, embedded.epoch, PARTITIONS, kill, embedded.file, copy)
