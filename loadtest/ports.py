"""Free ports on this machine, for services that a run starts."""

from __future__ import annotations

import socket


def free_ports(count: int) -> list[int]:
    """Loopback ports that are free now, held all at once so that they differ; somebody may take one before you do."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [held.getsockname()[1] for held in sockets]
    for held in sockets:
        held.close()
    return ports
