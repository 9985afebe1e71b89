import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from threading import Thread

import psutil
import pytest
from structlog.testing import capture_logs

from service.embedded import supervisor as module
from service.embedded.supervisor import SUPERVISED, Child, Supervisor
from tests.service.servers import until

SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]


@pytest.fixture
def children() -> Iterator[list[Child]]:
    """Whatever a test puts here is ended after it."""
    children: list[Child] = []
    yield children
    for child in children:
        child.stop()


def script(text: str) -> list[str]:
    return [sys.executable, "-c", text]


def noting(name: str, notes: Path) -> list[str]:
    """A program that notes its start and, when asked to end, its end."""
    return script(
        "import signal, sys, time\n"
        f"note = lambda what: open({str(notes)!r}, 'a').write(f'{name} {{what}}\\n')\n"
        "def end(*_): note('ends'); sys.exit()\n"
        "signal.signal(signal.SIGTERM, end)\n"
        "note('starts')\n"
        "time.sleep(600)"
    )


def look_until_up(child: Child) -> int:
    def is_up() -> bool:
        child.look()
        return child.pid is not None

    until(is_up)
    assert child.pid is not None
    return child.pid


def test_a_child_runs_once(children: list[Child]) -> None:
    child = Child("sleeper", SLEEP, {})
    children.append(child)
    assert child.pid is None
    first = look_until_up(child)
    child.look()
    assert child.pid == first


def test_a_child_that_is_killed_is_started_again(children: list[Child]) -> None:
    child = Child("sleeper", SLEEP, {})
    children.append(child)
    first = look_until_up(child)
    psutil.Process(first).kill()
    until(lambda: child.pid is None)
    assert look_until_up(child) != first


def test_one_that_keeps_dying_is_started_ever_more_rarely(
    children: list[Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("service.embedded.supervisor.time.monotonic", lambda: now[0])
    child = Child("mortal", script(""), {})
    children.append(child)

    def pause_after_death(lived_s: float = 0) -> float:
        with capture_logs() as logs:
            child.look()
            until(lambda: child.pid is None)
            now[0] += lived_s
            child.look()
        started, died = logs
        assert started["event"] == "started"
        now[0] += died["seconds"]
        return float(died["seconds"])

    assert [pause_after_death() for _ in range(8)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5, 5])
    assert pause_after_death(module.HEALTHY_AFTER_S) == pytest.approx(0.1)
    assert pause_after_death() == pytest.approx(0.2)


def test_a_child_rests_until_its_pause_is_over(children: list[Child], monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr("service.embedded.supervisor.time.monotonic", lambda: now[0])
    child = Child("mortal", script(""), {})
    children.append(child)
    child.look()
    until(lambda: child.pid is None)
    with capture_logs() as logs:
        for now[0] in (0.0, 0.05, 0.09, 0.11):
            child.look()
    assert [entry["event"] for entry in logs] == ["a part died, starting it again", "started"]


def test_a_child_has_its_own_environment(children: list[Child], tmp_path: Path) -> None:
    found = tmp_path / "found"
    text = f"import os; open({str(found)!r}, 'w').write(os.environ['OURS'] + os.environ['{SUPERVISED}'])"
    child = Child("teller", script(text), {"OURS": "yes"})
    children.append(child)
    child.look()
    until(lambda: found.exists() and found.read_text() == "yes1")


def test_a_child_that_does_not_end_when_asked_is_killed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(module, "PATIENCE_S", 0.2)
    deaf = tmp_path / "deaf"
    text = f"import signal, time; signal.signal(15, signal.SIG_IGN); open({str(deaf)!r}, 'w'); time.sleep(600)"
    child = Child("deaf", script(text), {})
    pid = look_until_up(child)
    until(deaf.exists)
    child.stop()
    assert not psutil.pid_exists(pid)
    child.stop()  # harmless


def test_children_start_in_order_and_end_in_the_opposite_one(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    supervisor = Supervisor([Child(name, noting(name, notes), {}) for name in ("first", "second")])
    runs = Thread(target=supervisor.run)
    runs.start()
    until(lambda: notes.exists() and len(notes.read_text().splitlines()) == 2)
    pids = [child.pid for child in supervisor.children]
    assert None not in pids
    assert pids == sorted(pids, key=lambda pid: psutil.Process(pid).create_time())
    supervisor.stop()
    runs.join(20)
    assert notes.read_text().splitlines()[2:] == ["second ends", "first ends"]
    assert [child.pid for child in supervisor.children] == [None, None]


WATCHES = "from service.embedded.supervisor import end_with_supervisor as w; import time; w(); print(1, flush=True); "


def test_a_child_ends_when_its_supervisor_is_gone() -> None:
    with subprocess.Popen(
        script(WATCHES + "time.sleep(600)"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {SUPERVISED: "1"},
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == b"1\n"
        assert child.poll() is None
        child.stdin.close()  # what the system does when the supervisor dies, however it dies
        assert child.wait(20) == -15


def test_a_part_that_runs_alone_heeds_no_supervisor() -> None:
    alone = {name: value for name, value in os.environ.items() if name != SUPERVISED}
    done = subprocess.run(
        script(WATCHES + "time.sleep(0.3); print(2)"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        env=alone,
        check=True,
        timeout=30,
    )
    assert done.stdout == b"1\n2\n"
