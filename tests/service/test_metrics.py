import socket
from collections.abc import Iterator

import httpx2
from prometheus_client import REGISTRY, Metric, generate_latest
from structlog.testing import capture_logs

from loadtest.ports import free_ports
from service import metrics


def ours() -> Iterator[Metric]:
    return (metric for metric in REGISTRY.collect() if metric.name.startswith("om_"))


def test_metrics_are_one_family_and_all_are_described() -> None:
    declared = [value for name, value in vars(metrics).items() if name.isupper() and name != "MILLISECONDS"]
    assert len(list(ours())) == len(declared)
    assert all(metric.documentation.endswith(".") for metric in ours())


def test_histograms_of_time_are_in_seconds_and_tell_half_a_second_apart() -> None:
    for metric in ours():
        if metric.type == "histogram":
            assert metric.name.endswith("_seconds")
    metrics.FRESHNESS_SECONDS.observe(0.45)
    assert b'om_freshness_seconds_bucket{le="0.5"}' in generate_latest()
    assert sorted(metrics.MILLISECONDS) == metrics.MILLISECONDS


def test_no_series_says_when_it_was_made() -> None:
    metrics.SLATE_ITEMS.labels("default", "exploit").inc()
    assert b"om_slate_items_total{" in generate_latest()
    assert b"_created" not in generate_latest()


def test_a_port_that_is_taken_stops_nothing_else() -> None:
    with socket.socket() as taken, capture_logs() as told:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        metrics.serve(taken.getsockname()[1], "127.0.0.1")
    assert [line["log_level"] for line in told] == ["error"]
    assert "choose another port" in told[0]["event"]


def test_on_a_port_of_its_own_prometheus_may_ask() -> None:
    (port,) = free_ports(1)
    metrics.serve(0, "127.0.0.1")
    metrics.serve(port, "127.0.0.1")
    assert "om_freshness_seconds" in httpx2.get(f"http://127.0.0.1:{port}/metrics").text
