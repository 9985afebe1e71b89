"""A proxy in front of a server that hands its answers on late, each after a time of its own, but in their order."""

import asyncio
import random
import threading
from types import TracebackType
from typing import Self

from service.store.connection import each_host


class SlowProxy:
    """Listens on a loopback port, in a thread with a loop of its own."""

    def __init__(self, url: str, most_s: float) -> None:
        """`url` is the server's, on a Unix socket; answers come up to `most_s` seconds late."""
        (self._target,) = (host.removeprefix("unix://") for host in each_host(url))
        self._most_s = most_s
        self._random = random.Random(0)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._tasks: set[asyncio.Task[None]] = set()
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    async def _serve(self) -> None:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answers, questions = await asyncio.open_unix_connection(self._target)
        ways = asyncio.gather(self._pass(reader, questions, 0), self._pass(answers, writer, self._most_s))
        task = asyncio.ensure_future(ways)
        try:
            await task
        finally:
            writer.close()
            questions.close()

    async def _pass(self, source: asyncio.StreamReader, target: asyncio.StreamWriter, most_s: float) -> None:
        try:
            while said := await source.read(1 << 16):
                await asyncio.sleep(self._random.random() * most_s)
                target.write(said)
                await target.drain()
            target.close()
        except OSError:
            pass

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(), self._loop).result(10)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        async def end() -> None:
            self._server.close()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for task in others:
                task.cancel()
            await asyncio.gather(*others, return_exceptions=True)

        asyncio.run_coroutine_threadsafe(end(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
