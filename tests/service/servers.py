"""What tests of the service start and end at will: a Valkey, the whole service, and conditions that are waited for."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import httpx2
import psutil
import redis

from loadtest.ports import free_ports
from service.embedded import valkey as embedded_valkey
from service.settings import Settings

PATIENCE_S = 30.0


def until(condition: Callable[[], object], seconds: float = PATIENCE_S) -> None:
    """Wait until a condition holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)


class PrivateValkey:
    """A Valkey in a folder, run as the embedded service runs it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.url = embedded_valkey.url(folder)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it answers."""
        assert self._process is None
        self._process = subprocess.Popen(embedded_valkey.command(self.folder), stdout=subprocess.DEVNULL)
        until(self.answers)

    def kill(self) -> None:
        """End it as a crash does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def answers(self) -> bool:
        """Whether it serves."""
        with redis.Redis.from_url(self.url) as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()


class LocalService:
    """`python -m service` as a real process in a folder of its own, on free ports, with a client of its API."""

    def __init__(self, folder: Path, **settings: str) -> None:
        self.state = folder / "state"
        self.bundles = folder / "bundles"
        self.port, self.fold_port = free_ports(2)
        self._log = folder / "service.log"
        self.command = [sys.executable, "-m", "service"]
        self.environment = environment(
            {
                "STATE_FOLDER": str(self.state),
                "BUNDLES": str(self.bundles),
                "PORT": str(self.port),
                "FOLD_PORT": str(self.fold_port),
                "VERIFY_EVERY_S": "0",
                **settings,
            }
        )
        self.process: psutil.Popen | None = None
        self.client = httpx2.Client(base_url=f"http://127.0.0.1:{self.port}", timeout=20)

    def start(self, patience_s: float = PATIENCE_S) -> None:
        """Start it and wait until every part is well."""
        with self._log.open("ab") as log:
            self.process = psutil.Popen(self.command, env=self.environment, stdout=log, stderr=log)
        until(self.is_ready, patience_s)

    def is_ready(self) -> bool:
        """Whether every dependency is well."""
        assert self.process is not None
        assert self.process.poll() is None, self._log.read_text()
        try:
            return bool(self.client.get("/health/ready").json()["status"] == "ready")
        except httpx2.TransportError:
            return False

    def parts(self) -> dict[str, psutil.Process]:
        """The running children by name."""
        assert self.process is not None
        found = {}
        for child in self.process.children():
            with suppress(psutil.NoSuchProcess):  # it ended while it was looked at
                command = child.cmdline()
                # Else it has ended, or not become yet what it is to be.
                if child.status() != psutil.STATUS_ZOMBIE and command != self.process.cmdline():
                    found[command[3] if "-m" in command else "valkey"] = child
        return found

    def stop(self) -> int:
        """Ask it to end; its exit code."""
        assert self.process is not None
        self.process.terminate()
        return int(self.process.wait(PATIENCE_S))

    def fold_metrics(self) -> dict[str, float]:
        """The fold's own metrics."""
        text = httpx2.get(f"http://127.0.0.1:{self.fold_port}/metrics").text
        return {
            name: float(value)
            for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if line.startswith("om_"))
        }

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.client.close()
        assert self.process is not None
        left = [self.process, *self.parts().values()] if self.process.is_running() else []
        for process in left:
            with suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait()
        if error is not None:
            print(self._log.read_text())  # pytest shows it with the failure


def environment(settings: Mapping[str, str]) -> dict[str, str]:
    """This process's environment with these settings and no others."""
    ours = {name.upper() for name in Settings.model_fields}
    return {name: value for name, value in os.environ.items() if name.upper() not in ours} | dict(settings)
