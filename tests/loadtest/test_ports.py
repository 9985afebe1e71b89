import socket

from loadtest.ports import free_ports


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(3)
    assert len(set(ports)) == 3
    for port in ports:
        with socket.create_server(("127.0.0.1", port)) as listener:
            assert listener.getsockname()[1] == port
            assert port not in free_ports(2)
