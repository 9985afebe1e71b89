"""The supervisor: starts the parts of the service as children, and starts again whatever dies."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
import time
from collections.abc import Mapping, Sequence
from types import FrameType

import structlog

logger = structlog.get_logger(__name__)
LOOK_EVERY_S = 0.1
FIRST_BACKOFF_S = 0.1
LONGEST_BACKOFF_S = 5.0
# A child that lived this long is healthy: its next death starts with the first back-off again.
HEALTHY_AFTER_S = 10.0
PATIENCE_S = 15.0
SUPERVISED = "OM_SUPERVISED"


class Child:
    """One part, started again with growing pauses when it ends by itself."""

    def __init__(self, name: str, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self.name = name
        self._command = list(command)
        # A child holds the reading end of a pipe whose writing end dies with us: so it learns of our death.
        self._environment = {**os.environ, **environment, SUPERVISED: "1"}
        self._process: subprocess.Popen[bytes] | None = None
        self._backoff_s = FIRST_BACKOFF_S
        self._due = 0.0
        self._started = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it runs."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def look(self) -> None:
        """Start what is not running, when its pause is over."""
        now = time.monotonic()
        if self._process is not None and (code := self._process.poll()) is not None:
            self._let_go()
            if now - self._started >= HEALTHY_AFTER_S:
                self._backoff_s = FIRST_BACKOFF_S
            logger.warning("a part died, starting it again", child=self.name, code=code, seconds=self._backoff_s)
            self._due = now + self._backoff_s
            self._backoff_s = min(2 * self._backoff_s, LONGEST_BACKOFF_S)
        if self._process is None and now >= self._due:
            self._process = subprocess.Popen(self._command, env=self._environment, stdin=subprocess.PIPE)  # noqa: S603
            self._started = now
            logger.info("started", child=self.name, pid=self._process.pid)

    def stop(self) -> None:
        """Ask it to end, wait, and insist."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            logger.warning("does not end when asked: killed", child=self.name)
            self._process.kill()
            self._process.wait()
        self._let_go()

    def _let_go(self) -> None:
        """Close our end of its pipe: it has ended."""
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None


class Supervisor:
    """Runs children in order, the first of which the others lean on; ends them in the opposite order."""

    def __init__(self, children: Sequence[Child]) -> None:
        self.children = list(children)
        self._stopping = threading.Event()

    def stop(self) -> None:
        """End `run`."""
        self._stopping.set()

    def run(self) -> None:
        """Keep the children running until stopped."""
        try:
            while not self._stopping.wait(LOOK_EVERY_S):
                for child in self.children:
                    child.look()
        finally:
            for child in reversed(self.children):
                child.stop()

    def handle_signals(self) -> None:
        """End on SIGTERM and SIGINT."""

        def stop(_signal: int, _frame: FrameType | None) -> None:
            self.stop()

        signal.signal(signal.SIGTERM, stop)
        signal.signal(signal.SIGINT, stop)


def end_with_supervisor() -> None:
    """In a supervised process: end when the supervisor is gone, even if it was killed outright."""
    if SUPERVISED not in os.environ:
        return

    def watch() -> None:
        # Not through sys.stdin: an interpreter that ends while a thread waits inside its buffer aborts.
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, name="supervisor-watch", daemon=True).start()
