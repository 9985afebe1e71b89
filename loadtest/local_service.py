"""The service as a child process on free loopback ports, for as long as a demo or a load test needs it."""

from __future__ import annotations

import fcntl
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import FrameType, TracebackType
from typing import NoReturn, Self

import psutil

from loadtest.ports import free_ports
from service.settings import Environment, Settings

HOST = "127.0.0.1"
READY_WITHIN_S = 60.0
STOP_WITHIN_S = 40.0
LOOK_EVERY_S = 0.1
TAIL_LINES = 15
# The mark of a folder that is ours to empty, and the file that a service locks.
RUN, LOCK = "run", "lock"


class ServiceFailed(Exception):  # noqa: N818 - names what happened
    """The service did not come up, or cannot have its folder; the message says why, with the end of its log."""


class LocalService:
    """`python -m service` with a state folder of its own; a context manager that ends it."""

    def __init__(self, folder: Path, environment: Mapping[str, str], *, keep: bool = False) -> None:
        """Claim the folder and choose ports; entering the context starts the service.

        Args:
            folder: the state folder. What an earlier run left there is removed unless `keep`; a folder that no
                earlier run made is refused unless it is empty.
            environment: settings, on top of this process's own environment.
            keep: go on with what the folder's last run learned.

        Raises:
            ServiceFailed: the folder is somebody else's, or in use.
        """
        self.folder = folder
        self.port, self.fold_port = free_ports(2)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None
        if folder.exists() and not (folder / RUN).exists() and any(folder.iterdir()):
            raise ServiceFailed(f"{folder} holds files that no run of ours made: name another folder")
        folder.mkdir(parents=True, exist_ok=True)
        with _nobody_serves(folder):
            # Names what a run shares with others: its keys in Redis and its topics in Kafka.
            self.run_id = _begin_run(folder, keep)

    @property
    def names(self) -> dict[str, str]:
        """Settings that keep this run apart from others on a Redis or Kafka that it did not start; else none."""
        surroundings = Settings(environment=Environment.DEVELOPMENT)  # a `.env` file counts, too
        names = {}
        if surroundings.redis_url or surroundings.kafka_bootstrap_servers:
            names["KEY_PREFIX"] = f"om-{self.run_id}"
        if surroundings.kafka_bootstrap_servers:
            topic = f"feedback-{self.run_id}"
            names |= {"KAFKA_TOPIC": topic, "KAFKA_DEAD_LETTER_TOPIC": f"{topic}.dead-letter", "KAFKA_GROUP": topic}
        return names

    @property
    def url(self) -> str:
        """The API's address."""
        return f"http://{HOST}:{self.port}"

    @property
    def fold_url(self) -> str:
        """The address of the fold's metrics."""
        return f"http://{HOST}:{self.fold_port}"

    @property
    def log_path(self) -> Path:
        """Where the service writes what it logs."""
        return self.folder / "service.log"

    def __enter__(self) -> Self:
        settings = {
            "VERIFY_EVERY_S": "0",  # nothing runs beside what is measured, unless it is asked for
            **self._environment,
            **self.names,
            "ENVIRONMENT": "development",
            "STATE_FOLDER": str(self.folder),
            "HOST": HOST,
            "PORT": str(self.port),
            "FOLD_PORT": str(self.fold_port),
        }
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service"],
                env={**os.environ, **settings},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                # Ctrl-C is for us alone: we end the service when we are done with it.
                process_group=0,
            )
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(STOP_WITHIN_S)
            except subprocess.TimeoutExpired:
                self._process.kill()  # its children notice, and end by themselves
                self._process.wait()

    def wait_until_ready(self, seconds: float = READY_WITHIN_S) -> None:
        """Wait until every dependency of the service is well. Raises ServiceFailed."""
        deadline = time.monotonic() + seconds
        while not self._is_ready():
            if self._process is not None and (code := self._process.poll()) is not None:
                raise ServiceFailed(f"the service ended with code {code}. {self._tail()}")
            if time.monotonic() > deadline:
                raise ServiceFailed(f"the service is not ready after {seconds:.0f} s. {self._tail()}")
            time.sleep(LOOK_EVERY_S)

    def wait(self) -> None:
        """Wait until the service ends."""
        if self._process is not None:
            self._process.wait()

    def cpu_seconds(self) -> dict[str, float]:
        """Processor time of each part so far; a part that died and came back starts anew."""
        seconds: dict[str, float] = {}
        if self._process is None:
            return seconds
        try:
            for child in psutil.Process(self._process.pid).children():
                times = child.cpu_times()
                name = child.cmdline()[-1] if "-m" in child.cmdline() else "valkey"
                seconds[name] = seconds.get(name, 0.0) + times.user + times.system
        except (psutil.Error, IndexError):
            pass  # it died while we looked
        return seconds

    def _is_ready(self) -> bool:
        connection = http.client.HTTPConnection(HOST, self.port, timeout=2)
        try:
            connection.request("GET", "/health/ready")
            answer = json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, json.JSONDecodeError):
            return False
        finally:
            connection.close()
        return bool(answer.get("status") == "ready")

    def _tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-TAIL_LINES:]
        return "\n".join([f"The end of {self.log_path}:", *lines])


def end_on_sigterm() -> None:
    """Let SIGTERM end this process as Ctrl-C does, so that the service is ended with it."""

    def end(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, end)


@contextmanager
def _nobody_serves(folder: Path) -> Iterator[None]:
    """Hold the lock that a service holds on its state folder. Raises ServiceFailed: one does."""
    with (folder / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ServiceFailed(f"a service is still running on {folder}: end it, or name another folder") from None
        yield


def _begin_run(folder: Path, keep: bool) -> str:
    """The id of the last run if it is to be kept; else that of a new one, in a folder that holds nothing else."""
    marker = folder / RUN
    if keep and marker.exists():
        return marker.read_text()
    marker.touch()  # first of all: a folder that is half emptied is ours still
    for path in folder.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (RUN, LOCK):
            path.unlink()
    run_id = datetime.now(UTC).strftime("%Y%m%dt%H%M%S%f")[:-3]
    marker.write_text(run_id)
    return run_id
