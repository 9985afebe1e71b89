"""Parts: the service's own processes, each with its log in a file; killed, paused and started again."""

import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import orjson
import psutil

PATIENCE_S = 40.0


class Part:
    """`python -m service <command>`, again and again."""

    def __init__(self, name: str, command: str, environment: Mapping[str, str], folder: Path) -> None:
        self.name = name
        self.log = folder / f"{name}.log"
        self.paused = False
        self.died: list[int] = []  # codes with which it ended by itself
        self._command = [sys.executable, "-m", "service", command]
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def running(self) -> bool:
        """Whether it was started and not ended by us."""
        return self._process is not None

    def start(self) -> None:
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(self._command, env=self._environment, stdout=log, stderr=subprocess.STDOUT)

    def look(self) -> None:
        """Note it if it ended by itself, and start it again."""
        if self._process is not None and (code := self._process.poll()) is not None:
            self.died.append(code)
            self.start()

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process, self.paused = None, False

    def stop(self) -> None:
        """SIGTERM: it hands over and ends."""
        if self._process is None:
            return
        self.resume()
        self._process.terminate()
        try:
            self._process.wait(PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.died.append(-signal.SIGKILL)  # it did not end when asked
        self.kill()

    def pause(self) -> None:
        """SIGSTOP."""
        if self._process is not None:
            self._process.send_signal(signal.SIGSTOP)
            self.paused = True

    def resume(self) -> None:
        """SIGCONT."""
        if self._process is not None and self.paused:
            self._process.send_signal(signal.SIGCONT)
        self.paused = False

    def busy_s(self) -> float:
        """Seconds of a processor that it has used."""
        if self._process is None or self._process.poll() is not None:
            return 0.0
        times = psutil.Process(self._process.pid).cpu_times()
        return float(times.user + times.system)


def busiest(parts: list[Part], within_s: float = 0.05) -> Part:
    """The one that works hardest just now."""
    before = [part.busy_s() for part in parts]
    time.sleep(within_s)
    used = [part.busy_s() - earlier for part, earlier in zip(parts, before, strict=True)]
    return parts[used.index(max(used))]


def told(log: Path) -> Iterator[dict[str, Any]]:
    """The events in a log of JSON lines; other lines are left out."""
    if not log.exists():
        return
    for line in log.read_bytes().splitlines():
        try:
            entry = orjson.loads(line)
        except orjson.JSONDecodeError:
            continue  # cut off by a kill, or another's
        if isinstance(entry, dict) and "event" in entry:
            yield entry
