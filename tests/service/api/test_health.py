from pathlib import Path
from typing import Any

from prometheus_client import REGISTRY

from bandit import bundle
from service.attribution import Reason
from service.settings import Arm
from tests.bundles import small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.servers import PrivateValkey, until

FORGED = {"type": "impression", "attribution_token": "AAAA"}


def ready(loop: Loop) -> tuple[int, dict[str, Any]]:
    answer = loop.client.get("/health/ready")
    return answer.status_code, answer.json()


def is_ready(loop: Loop) -> bool:
    return bool(ready(loop)[1]["status"] == "ready")


def test_a_process_that_answers_is_alive(make_loop: MakeLoop) -> None:
    answer = make_loop(None).client.get("/health/live")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


def test_ready_names_every_dependency(loop: Loop) -> None:
    until(lambda: is_ready(loop))
    status, told = ready(loop)
    assert status == 200
    assert told["dependencies"].keys() == {"bundle", "redis", "feedback_log"}
    assert told["dependencies"]["bundle"] == {"ok": True, "version": loop.bundle.manifest.version}
    assert told["dependencies"]["redis"]["replica"] == "following"
    assert loop.serving.epoch is not None
    assert told["dependencies"]["feedback_log"] == {"ok": True, "epoch": loop.serving.epoch.hex()}


def test_without_a_bundle_it_is_unavailable_and_says_what_to_run(make_loop: MakeLoop) -> None:
    status, told = ready(make_loop(None))
    assert (status, told["status"]) == (503, "unavailable")
    assert told["dependencies"]["bundle"]["ok"] is False
    assert "run `python -m offline run`" in told["dependencies"]["bundle"]["detail"]
    assert told["dependencies"]["feedback_log"]["ok"] is True


def test_a_broken_bundle_is_refused_and_named(make_loop: MakeLoop, tmp_path: Path) -> None:
    root = tmp_path / "bundles"
    bundle.write(small_bundle(), str(root))
    (arrays,) = root.glob("*/arrays.safetensors")
    arrays.write_bytes(b"damaged")
    loop = make_loop(None)
    status, told = ready(loop)
    assert status == 503
    assert "arrays.safetensors does not match its checksum" in told["dependencies"]["bundle"]["detail"]
    answer = loop.ask(user_id="anybody")
    assert answer.status_code == 503
    assert "does not match its checksum" in answer.json()["detail"]


def test_without_a_log_it_is_unavailable_until_there_is_one(make_loop: MakeLoop, tmp_path: Path) -> None:
    folder = tmp_path / "state" / "feedback.sqlite"
    folder.mkdir(parents=True)  # where the log's file should be
    loop = make_loop(small_bundle())
    status, told = ready(loop)
    assert (status, told["status"]) == (503, "unavailable")
    assert "feedback.sqlite" in told["dependencies"]["feedback_log"]["detail"]
    assert told["dependencies"]["bundle"]["ok"] is True
    for answer in (loop.ask(), loop.client.post("/v1/events", json={"type": "impression", "attribution_token": "t"})):
        assert answer.status_code == 503
        assert answer.headers["retry-after"] == "1"
        assert answer.json()["title"] == "No feedback log yet"
    folder.rmdir()
    until(lambda: is_ready(loop))
    assert loop.recommend()["items"]


def test_without_redis_it_is_degraded_and_goes_on(make_loop: MakeLoop, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        loop = make_loop(small_bundle(), redis_url=server.url)
        until(lambda: is_ready(loop))
        server.kill()
        until(lambda: ready(loop)[1]["status"] == "degraded")
        status, told = ready(loop)
        assert status == 200
        assert told["dependencies"]["redis"]["ok"] is False
        assert told["dependencies"]["redis"]["replica"] == "degraded"
        assert loop.recommend(user_id="user-0")["items"]
        server.start()
        until(lambda: is_ready(loop))


def test_a_redis_of_other_facts_is_not_followed_and_says_why(make_loop: MakeLoop, tmp_path: Path) -> None:
    loop = make_loop(small_bundle())
    until(lambda: is_ready(loop))
    other = make_loop(None, partitions=5, state_folder=tmp_path / "other")
    until(lambda: ready(other)[1]["dependencies"]["redis"]["replica"] == "degraded")
    status, told = ready(other)
    assert (status, told["status"]) == (200, "degraded")
    assert "partitions is 4 there, 5 in the settings" in told["dependencies"]["redis"]["detail"]


def test_metrics_hold_every_family(make_loop: MakeLoop) -> None:
    loop = make_loop(small_bundle(), arms=[Arm(name="measured")])
    slate = loop.recommend(limit=7)
    loop.send({"type": "impression", "attribution_token": slate["attribution_token"]}, FORGED)
    loop.fold()
    loop.client.get("/nowhere")
    answer = loop.client.get("/metrics")
    assert answer.headers["content-type"].startswith("text/plain")
    families = {line.split()[2] for line in answer.text.splitlines() if line.startswith("# TYPE om_")}
    ours = {metric.name for metric in REGISTRY.collect() if metric.name.startswith("om_")}
    assert {family.removesuffix("_total") for family in families} == ours
    lines = dict(line.rsplit(" ", 1) for line in answer.text.splitlines() if line.startswith("om_"))
    assert float(lines['om_slate_items_total{arm="measured",source="exploit"}']) > 0
    assert float(lines['om_events_received_total{reason="",verdict="accepted"}']) >= 7
    assert float(lines[f'om_events_received_total{{reason="{Reason.FORGED}",verdict="refused"}}']) >= 1
    for route, status in [("/v1/recommendations", 200), ("/v1/events", 202), ("unknown", 404)]:
        assert float(lines[f'om_request_seconds_count{{route="{route}",status="{status}"}}']) >= 1
    assert float(lines["om_freshness_seconds_count"]) >= 1
    assert float(lines["om_replica_age_seconds"]) >= 0
