import socket

from service.embedded.ports import free_port


def test_a_free_port_can_be_listened_on() -> None:
    port = free_port()
    assert 1024 <= port <= 65535
    with socket.create_server(("127.0.0.1", port)) as listener:
        assert listener.getsockname()[1] == port
        assert free_port() != port
