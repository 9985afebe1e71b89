from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bandit import bundle as bundles
from bandit.bundle import ITEMS, Bundle
from service import switch
from tests.bundles import child_of, small_bundle
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.servers import PrivateValkey, until

V1, V2, V3 = (f"2026010{day}T000000Z" for day in (1, 2, 3))


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "WATCH_EVERY_S", 0.02)


def publish(loop: Loop, bundle: Bundle) -> None:
    bundles.write(bundle, loop.settings.bundles)


def damage(loop: Loop, version: str) -> None:
    (Path(loop.settings.bundles) / version / ITEMS).write_bytes(b"damaged")


def told(loop: Loop) -> dict[str, Any]:
    answer = loop.client.get("/v1/bundles")
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    return listed


def states(listed: dict[str, Any]) -> list[tuple[str, str]]:
    return [(bundle["version"], bundle["state"]) for bundle in listed["bundles"]]


def post(loop: Loop, what: str, **query: int) -> dict[str, Any]:
    answer = loop.client.post(f"/v1/bundles{what}", params=query)
    assert answer.status_code == 200, answer.text
    listed: dict[str, Any] = answer.json()
    assert listed["serving"] == loop.recommend()["version"]
    return listed


def refuse(loop: Loop, status: int, what: str, **query: int) -> str:
    """The detail of a refusal that must come, with everything as it was."""
    before = told(loop)
    answer = loop.client.post(f"/v1/bundles{what}", params=query)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    after = told(loop)
    for listed in (before, after):
        del listed["bundles"]
    assert after == before
    detail: str = answer.json()["detail"]
    return detail


@pytest.fixture
def loop(make_loop: MakeLoop) -> Loop:
    """Serves the second of two bundles."""
    loop = make_loop(small_bundle(version=V1))
    publish(loop, child_of(small_bundle(version=V1), version=V2))
    until(lambda: loop.serving.switch.version == V2)
    return loop


def test_the_newest_bundle_is_active_where_nobody_asked_for_another(loop: Loop) -> None:
    listed = told(loop)
    assert (listed["serving"], listed["active"], listed["pinned"], listed["revision"]) == (V2, V2, False, 0)
    assert states(listed) == [(V2, "active"), (V1, "available")]
    assert listed["changes"] == []
    newest, oldest = listed["bundles"]
    assert newest["parent_version"] == V1
    assert "parent_version" not in oldest
    assert oldest["counts"] == small_bundle().manifest.counts.model_dump()
    assert oldest["created_at"].startswith("2026-01-01")


def test_metrics_are_told_in_short(make_loop: MakeLoop) -> None:
    bundle = small_bundle()
    metrics = {"train": {"epochs": 3, "recall": 0.5}, "report": {"users": 7, "tasks": {"all": {}}}, "note": "text"}
    manifest = bundle.manifest.model_copy(update={"metrics": metrics})
    loop = make_loop(Bundle(**{**vars(bundle), "manifest": manifest}))
    (listed,) = told(loop)["bundles"]
    assert listed["metrics"] == {"train": {"epochs": 3, "recall": 0.5}, "report": {"users": 7}}


def test_an_activated_bundle_is_served_when_it_answers_and_stays(loop: Loop) -> None:
    listed = post(loop, f"/{V1}:activate")
    assert (listed["serving"], listed["active"], listed["pinned"], listed["revision"]) == (V1, V1, True, 1)
    assert states(listed) == [(V2, "available"), (V1, "active")]
    (change,) = listed["changes"]
    assert (change["version"], change["instead_of"], change["rollback"]) == (V1, V2, False)
    publish(loop, small_bundle(version=V3))
    until(lambda: states(told(loop))[0] == (V3, "available"))
    assert told(loop)["serving"] == V1


def test_what_is_active_already_is_not_activated_again(loop: Loop) -> None:
    serving = loop.serving.recommender
    assert post(loop, f"/{V2}:activate")["revision"] == 1
    assert post(loop, f"/{V2}:activate")["revision"] == 1
    assert loop.serving.recommender is serving


def test_unpinned_the_newest_is_served_again(loop: Loop) -> None:
    post(loop, f"/{V1}:activate")
    listed = post(loop, ":unpin")
    assert (listed["serving"], listed["pinned"], listed["revision"]) == (V2, False, 2)
    publish(loop, small_bundle(version=V3))
    until(lambda: told(loop)["serving"] == V3)
    assert post(loop, ":unpin")["revision"] == 2


@pytest.mark.parametrize("before", [(), (f"/{V2}:activate",)], ids=["newest", "pinned"])
def test_rollback_goes_to_what_was_active_before(loop: Loop, before: Sequence[str]) -> None:
    for what in before:
        post(loop, what)
    listed = post(loop, f"/{V2}:rollback")
    assert (listed["serving"], listed["active"], listed["pinned"]) == (V1, V1, True)
    assert listed["changes"][0]["rollback"] is True


def test_rollback_undoes_one_activation_after_the_other(loop: Loop) -> None:
    publish(loop, small_bundle(version=V3))
    until(lambda: told(loop)["serving"] == V3)
    post(loop, f"/{V1}:activate")
    post(loop, f"/{V2}:activate")
    assert post(loop, f"/{V2}:rollback")["serving"] == V1
    assert post(loop, f"/{V1}:rollback")["serving"] == V3
    assert post(loop, f"/{V3}:rollback")["serving"] == V2
    assert post(loop, f"/{V2}:activate")["revision"] == 5


def test_rollback_said_twice_goes_back_once(loop: Loop) -> None:
    post(loop, f"/{V2}:rollback")
    assert refuse(loop, 409, f"/{V2}:rollback") == f"{V2} is not active, {V1} is: name the version to roll back from"
    assert refuse(loop, 409, f"/{V1}:rollback") == f"nothing was active before {V1}"


def test_a_version_that_is_not_there_is_unknown(loop: Loop) -> None:
    for version in ("no-such-version", "..", "%20"):
        assert "has no bundle" in refuse(loop, 404, f"/{version}:activate")


def test_a_broken_bundle_is_refused_and_the_old_one_goes_on(loop: Loop) -> None:
    damage(loop, V1)
    detail = refuse(loop, 422, f"/{V1}:activate")
    assert "items.parquet does not match its checksum" in detail
    assert detail.endswith(f"{V2} is served")
    assert states(told(loop)) == [(V2, "active"), (V1, "refused")]
    assert "checksum" in told(loop)["bundles"][1]["reason"]
    refuse(loop, 409, f"/{V2}:rollback")


def test_a_manifest_that_cannot_be_read_is_refused(loop: Loop) -> None:
    folder = Path(loop.settings.bundles) / V3
    folder.mkdir()
    (folder / "manifest.json").write_text("{}")
    until(lambda: V3 in loop.serving.bundles.refused)
    listed = told(loop)
    assert states(listed) == [(V3, "refused"), (V2, "active"), (V1, "available")]
    assert "manifest.json is not readable" in listed["bundles"][0]["reason"]


def test_two_operators_do_not_overwrite_each_other_unseen(loop: Loop) -> None:
    seen = told(loop)["revision"]
    post(loop, f"/{V1}:activate", revision=seen)
    detail = refuse(loop, 409, f"/{V2}:activate", revision=seen)
    assert detail == f"what is active was changed, to {V1} (revision 1): look again"
    for what in (f"/{V1}:rollback", ":unpin"):
        refuse(loop, 409, what, revision=seen)
    post(loop, f"/{V2}:activate", revision=1)


def test_who_was_slower_is_told(loop: Loop, monkeypatch: pytest.MonkeyPatch) -> None:
    active: Any = loop.serving.switch._active
    change = active.change

    def second(before: Any, *asked: Any, **more: Any) -> Any:
        monkeypatch.setattr(active, "change", change)
        assert change(before, V2, V2, rollback=False)
        return change(before, *asked, **more)

    monkeypatch.setattr(active, "change", second)
    answer = loop.client.post(f"/v1/bundles/{V1}:activate")
    assert answer.status_code == 409
    assert f"somebody else was faster: what is active was changed, to {V2}" in answer.json()["detail"]
    assert loop.recommend()["version"] == V2


def test_without_redis_nothing_is_changed(make_loop: MakeLoop, tmp_path: Path) -> None:
    with PrivateValkey(tmp_path / "mortal") as server:
        loop = make_loop(small_bundle(version=V1), redis_url=server.url)
        server.kill()
        for answer in (loop.client.get("/v1/bundles"), loop.client.post(f"/v1/bundles/{V1}:activate")):
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
        assert loop.recommend()["version"] == V1
