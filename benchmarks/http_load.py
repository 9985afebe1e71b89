"""A closed-loop HTTP load on 127.0.0.1: raw sockets, since a full client would be slower than what it measures."""

from __future__ import annotations

import asyncio
import time
from typing import NamedTuple, cast

import numpy as np


class Load(NamedTuple):
    """What a load saw: answers per second, and quantiles of the time to an answer in ms."""

    per_second: float
    p50_ms: float
    p99_ms: float


async def measure(port: int, requests: list[bytes], connections: int, seconds: float) -> Load:
    """Keep `connections` requests in flight for `seconds`, taking the requests (whole HTTP messages) in turn.

    Raises:
        RuntimeError: an answer was not 200.
    """
    loop = asyncio.get_running_loop()
    deadline = time.perf_counter() + seconds
    clients = [
        _Client(requests[at::connections] or requests, deadline, loop.create_future()) for at in range(connections)
    ]
    started = time.perf_counter()
    for client in clients:
        await loop.create_connection(lambda client=client: client, "127.0.0.1", port)  # type: ignore[misc]
    await asyncio.gather(*(client.done for client in clients))
    elapsed = time.perf_counter() - started
    took = np.concatenate([client.took for client in clients]) * 1000
    p50, p99 = np.percentile(took, [50, 99])
    return Load(len(took) / elapsed, float(p50), float(p99))


class _Client(asyncio.Protocol):
    def __init__(self, requests: list[bytes], deadline: float, done: asyncio.Future[None]) -> None:
        self.took: list[float] = []
        self.done = done
        self._requests = requests
        self._deadline = deadline
        self._buffer = b""
        self._sent = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._send()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head = self._buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self._buffer.lower().find(b"content-length:", 0, head)
        length = int(self._buffer[at + 15 : self._buffer.index(b"\r\n", at)])
        if len(self._buffer) < head + 4 + length:
            return
        now = time.perf_counter()
        if not self._buffer.startswith(b"HTTP/1.1 200"):
            self._transport.close()
            self.done.set_exception(RuntimeError(self._buffer[:300].decode(errors="replace")))
            return
        self.took.append(now - self._sent)
        self._buffer = b""
        if now >= self._deadline:
            self._transport.close()
            self.done.set_result(None)
        else:
            self._send()

    def _send(self) -> None:
        self._sent = time.perf_counter()
        self._transport.write(self._requests[len(self.took) % len(self._requests)])
