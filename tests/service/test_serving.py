import sqlite3
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest

from bandit import bundle
from service import serving as module
from service import switch
from service.feedback_log import open_log
from service.settings import Settings
from service.store.redis import Store
from tests.bundles import small_bundle
from tests.conftest import SHARDS
from tests.service.conftest import MakeLoop
from tests.service.loop import Loop
from tests.service.servers import until
from tests.service.single_pass import whole_log


@pytest.fixture(autouse=True)
def _watchful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(switch, "WATCH_EVERY_S", 0.02)
    monkeypatch.setattr(module, "SEEK_LOG_EVERY_S", 0.02)
    monkeypatch.setattr(module, "CHECK_LOG_EVERY_S", 0.02)


def serves(loop: Loop) -> bool:
    return loop.ask(user_id="user-0").status_code == 200


def test_a_bundle_that_is_published_later_is_served_by_itself(make_loop: MakeLoop) -> None:
    loop = make_loop(None)
    assert loop.ask(user_id="user-0").status_code == 503
    assert loop.serving.bundle_error is not None
    published = small_bundle()
    bundle.write(published, loop.settings.bundles)
    until(lambda: serves(loop))
    assert loop.serving.bundle_error is None
    assert loop.recommend()["version"] == published.manifest.version


def test_the_newest_of_several_bundles_is_served(make_loop: MakeLoop) -> None:
    loop = make_loop(None)
    root = loop.settings.bundles
    for version in ("20260103T000000Z", "20260102T000000Z"):
        bundle.write(small_bundle(version=version), f"{root}.draft")
    Path(f"{root}.draft").rename(root)
    until(lambda: serves(loop))
    assert loop.recommend()["version"] == "20260103T000000Z"


def test_a_broken_bundle_is_refused_until_a_good_one_comes(make_loop: MakeLoop) -> None:
    loop = make_loop(None)
    draft = Path(f"{loop.settings.bundles}.draft")
    (Path(bundle.write(small_bundle(), str(draft))) / "items.parquet").write_bytes(b"damaged")
    draft.rename(loop.settings.bundles)
    until(lambda: "does not match its checksum" in (loop.serving.bundle_error or ""))
    assert not serves(loop)
    bundle.write(small_bundle(version="20260102T000000Z"), loop.settings.bundles)
    until(lambda: serves(loop))
    assert loop.serving.bundle_error is None


def test_a_log_made_anew_is_noticed_and_old_tokens_are_refused(loop: Loop) -> None:
    slate = loop.recommend()
    old = loop.serving.epoch
    with sqlite3.connect(loop.settings.feedback_database) as other:
        other.execute("UPDATE log SET epoch = ?", (b"made anew".ljust(16),))
    other.close()
    until(lambda: loop.serving.epoch != old)
    said = {"type": "impression", "attribution_token": slate["attribution_token"]}
    answer = loop.client.post("/v1/events", json=said)
    assert answer.json()["events"] == [{"verdict": "refused", "reason": "token of another log epoch"}]
    assert loop.send(said | {"attribution_token": loop.recommend()["attribution_token"]}) == ["accepted"]


def test_what_was_appended_is_finished_at_the_end(valkey: str, store: Store, settings: Callable[..., Settings]) -> None:
    chosen = settings(served_is_shown=True, shards=SHARDS)
    with Loop(chosen, valkey, small_bundle()) as loop:
        asked = [loop.recommend()["recommendation_id"] for _ in range(50)]
    log = open_log(chosen)
    records = [record for records in whole_log(log).values() for record in records]
    log.close()
    assert sorted(record.key.decode() for record in records) == sorted(asked)
    assert {orjson.loads(record.value)["type"] for record in records} == {"impression"}
