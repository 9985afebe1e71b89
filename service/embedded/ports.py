"""Free ports on this machine."""

from __future__ import annotations

import socket


def free_port() -> int:
    """A loopback port that is free now; somebody else may take it before you do."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
