"""How much slower is a recommendation than a FastAPI endpoint that does nothing but give the same answer?

Method: `python -m service api` with its real Valkey and SQLite log serves a random bundle (contexts of K = 10 clusters
with 500 edges each, 5,000 items); beside it a no-op FastAPI endpoint under the same uvicorn answers the same bytes.
One client keeps a few requests for 20 items in flight, for known users in random order; the two servers take turns,
A B A B …, and each pair of neighbouring turns gives a ratio. Reported: the median ratio, and both servers' median
throughput and latency. The client shares the machine's cores with the server it measures.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
import orjson
import typer
import uvloop

from bandit import bundle
from bandit.bundle import Bundle
from benchmarks.http_load import Load, measure
from loadtest.ports import free_ports
from service.embedded import valkey
from tests.bundles import small_bundle

PATIENCE_S = 60


def main(
    rounds: Annotated[int, typer.Option(help="Turns of each server.")] = 7,
    seconds: Annotated[float, typer.Option(help="Length of a turn.")] = 3.0,
    connections: Annotated[int, typer.Option(help="Requests in flight.")] = 8,
) -> None:
    """Measure, and print one JSON object."""
    # So warm a softmax leaves no user's weight at zero: every request gathers ten rows.
    world = small_bundle(users=2000, items=5000, clusters=256, width=500, clusters_per_user=10, temperature=20.0)
    assert (world.user_weights > 0).all()
    with tempfile.TemporaryDirectory() as folder, _service(Path(folder), world) as service_port:
        answer = _ask(service_port, _bodies(world)[0])
        path = Path(folder) / "answer.json"
        path.write_bytes(answer)
        with _server([sys.executable, "-m", "benchmarks.noop"], path) as noop_port:
            requests = [_message(body) for body in _bodies(world)]
            turns = uvloop.run(_turns((service_port, noop_port), requests, connections, seconds, rounds))
    ours, noop = turns
    ratios = [a.per_second / b.per_second for a, b in zip(ours, noop, strict=True)]
    result = {
        "question": "requests per second of POST /v1/recommendations over a no-op FastAPI endpoint's",
        "ratio": round(float(np.median(ratios)), 3),
        "ratios": [round(ratio, 3) for ratio in ratios],
        "service": _median(ours),
        "noop": _median(noop),
        "answer_bytes": len(answer),
        "connections": connections,
        "machine": {"cores": os.cpu_count(), "python": platform.python_version()},
    }
    print(json.dumps(result, indent=2))


async def _turns(
    ports: tuple[int, int], requests: list[bytes], connections: int, seconds: float, rounds: int
) -> tuple[list[Load], list[Load]]:
    for port in ports:
        await measure(port, requests, connections, 1.0)
    pairs = [[await measure(port, requests, connections, seconds) for port in ports] for _ in range(rounds)]
    return [ours for ours, _ in pairs], [noop for _, noop in pairs]


def _bodies(world: Bundle) -> list[bytes]:
    rng = np.random.default_rng(0)
    users = rng.permutation(world.users["user_id"].to_pylist())
    return [orjson.dumps({"user_id": str(user), "limit": 20}) for user in users]


def _message(body: bytes) -> bytes:
    head = "POST /v1/recommendations HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\ncontent-length: "
    return f"{head}{len(body)}\r\n\r\n".encode() + body


def _median(loads: list[Load]) -> dict[str, float]:
    middle = np.median(np.array(loads), axis=0).round(3).tolist()
    return dict(zip(Load._fields, middle, strict=True))


@contextmanager
def _service(folder: Path, world: Bundle) -> Iterator[int]:
    """The API with its own Valkey, once it is ready."""
    bundle.write(world, str(folder / "bundles"))
    (port,) = free_ports(1)
    environment = os.environ | {
        "STATE_FOLDER": str(folder / "state"),
        "BUNDLES": str(folder / "bundles"),
        "PORT": str(port),
        "LOG_LEVEL": "WARNING",
    }
    children = [
        subprocess.Popen(valkey.command(folder / "state"), stdout=subprocess.DEVNULL),
        subprocess.Popen([sys.executable, "-m", "service", "api"], env=environment),
    ]
    try:
        _wait(f"http://127.0.0.1:{port}/health/ready", '"ready"')
        yield port
    finally:
        for child in reversed(children):
            child.terminate()
            child.wait()


@contextmanager
def _server(command: list[str], path: Path) -> Iterator[int]:
    (port,) = free_ports(1)
    child = subprocess.Popen([*command, str(port), str(path)])
    try:
        _wait(f"http://127.0.0.1:{port}/openapi.json", "")
        yield port
    finally:
        child.terminate()
        child.wait()


def _wait(url: str, expected: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(url) as answer:
                if expected in answer.read().decode():
                    return
        except OSError:
            pass
        time.sleep(0.1)
    raise TimeoutError(f"{url} did not come up within {PATIENCE_S} s")


def _ask(port: int, body: bytes) -> bytes:
    request = urllib.request.Request(f"http://127.0.0.1:{port}/v1/recommendations", body)
    with urllib.request.urlopen(request) as answer:
        content: bytes = answer.read()
    assert len(orjson.loads(content)["items"]) == 20
    return content


if __name__ == "__main__":
    typer.run(main)
