import io
import json
import shutil
from pathlib import Path

import pytest
from rich.console import Console

from bandit import bundle as bundles
from bandit.context import UNIT
from bandit.models import FEATURES, ITEM_TOWER, MODELS, TEXT, USER_TOWER
from offline import pipeline
from offline.config import Build, Config, Evaluate, Prepare, Publish
from offline.errors import DataError
from offline.pipeline import Pipeline
from offline.text import encoder
from offline.training import processes, search
from tests.offline.conftest import BUILD, INTERESTS, RANK, TEST_START, TRAIN


@pytest.fixture(scope="module")
def config(shop: Path) -> Config:
    prepare = Prepare(interactions=shop / "interactions.parquet", items=shop / "items.parquet", test_start=TEST_START)
    return Config(
        prepare=prepare, train=TRAIN.model_copy(update={"max_epochs": 1}), build=BUILD, evaluate=Evaluate(cutoffs=(5,))
    )


@pytest.fixture(scope="module")
def finished(config: Config, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("finished")
    said, version = run(folder, config)
    assert said.count("▸") == 5
    assert version == bundles.versions(str(folder / "bundles"))[-1]
    return folder


def run(folder: Path, config: Config) -> tuple[str, str]:
    screen = io.StringIO()
    version = Pipeline(folder / "build", Console(file=screen, width=200)).run(config, str(folder / "bundles"))
    return screen.getvalue(), version


def result(folder: Path, step: str) -> dict[str, object]:
    found: dict[str, object] = json.loads((folder / "build" / step / "step.json").read_text())
    return found


def test_leaves_a_bundle_with_its_configuration_and_metrics(finished: Path, config: Config) -> None:
    root = str(finished / "bundles")
    manifest = bundles.load(root, bundles.versions(root)[-1]).manifest
    assert manifest.config["train"] == config.train.model_dump(mode="json")
    assert manifest.config["prepare"]["test_start"] == "2024-03-21T00:00:00Z"
    assert manifest.metrics["report"]["tasks"]["all"]["towers"]["recall"]["5"] > 0
    assert {USER_TOWER, ITEM_TOWER, FEATURES} <= set(manifest.checksums)
    assert manifest.metrics["train"]["epochs"] == {"plain": 1}
    assert {"metrics.json", "report.md", "recall.png"} <= {path.name for path in (finished / "build/report").iterdir()}


def test_users_of_several_interests_reach_every_item(config: Config, tmp_path: Path) -> None:
    towers = INTERESTS.model_copy(update={"max_epochs": 1})
    interested = config.model_copy(update={"train": towers, "rank": RANK.model_copy(update={"max_epochs": 1})})
    said, version = run(tmp_path, interested)
    bundle = bundles.load(str(tmp_path / "bundles"), version, MODELS)
    assert set(bundle.models) == set(MODELS)
    assert bundle.manifest.metrics["report"]["tasks"]["all"]["graph, ranked"]["ndcg"]["5"] > 0
    assert "graph, ranked" in said
    assert bundle.user_clusters.shape[1] == BUILD.clusters_per_user
    assert (bundle.user_weights.sum(axis=1) == UNIT).all()
    assert set(bundle.graph.items.tolist()) == set(range(len(bundle.items)))
    assert bundle.manifest.config["train"]["interests"] == 2
    content = bundles.load(str(tmp_path / "bundles"), version, [TEXT]).models[TEXT]
    red, green, new = encoder.unpack(content).encode(["RED", "GREEN", "a red one"])
    assert new @ red > new @ green
    assert bundle.manifest.item_features is not None
    assert [column.name for column in bundle.manifest.item_features.columns] == ["description", "price"]


def test_does_again_what_changed_and_what_rests_on_it(finished: Path, config: Config) -> None:
    said, version = run(finished, config)
    assert said.count("unchanged") == 5
    coarser = config.model_copy(update={"build": Build(**{**BUILD.model_dump(), "clusters_per_user": 2})})
    said, other = run(finished, coarser)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("▸")] == ["build", "report", "publish"]
    assert other != version
    assert f"Carries on {version}:" in said
    manifest = bundles.read_manifest(str(finished / "bundles"), other)
    assert manifest.parent_version == version
    assert manifest.metrics["carried_over"]["edges"] > 0
    rewards = coarser.model_copy(update={"publish": Publish(reward_table={"buy": 1.0})})
    said, last = run(finished, rewards)
    assert [line.split()[1] for line in said.splitlines() if line.startswith("▸")] == ["publish"]
    assert bundles.read_manifest(str(finished / "bundles"), last).parent_version is None


def test_publishes_again_what_is_no_longer_there(finished: Path, config: Config, tmp_path: Path) -> None:
    run(finished, config)
    steps = Pipeline(finished / "build", Console(file=io.StringIO()))
    version = steps.publish(config.publish, str(tmp_path))
    assert steps.publish(config.publish, str(tmp_path)) == version
    shutil.rmtree(tmp_path / version)
    again = steps.publish(config.publish, str(tmp_path))
    assert bundles.versions(str(tmp_path)) == [again]


def test_a_step_that_failed_is_done_again(finished: Path, config: Config, monkeypatch: pytest.MonkeyPatch) -> None:
    finer = Build(**{**BUILD.model_dump(), "min_clusters": 7})
    steps = Pipeline(finished / "build", Console(file=io.StringIO()))
    with monkeypatch.context() as broken:
        broken.setattr(bundles, "write", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            steps.build(finer)
    assert not result(finished, "build")["finished"]
    with pytest.raises(DataError, match="build has not been run"):
        steps.evaluate(config.evaluate)
    steps.build(finer)
    assert result(finished, "build")["finished"]


@pytest.mark.parametrize("wanted", [True, False])
def test_a_process_that_helps_trains_if_the_first_does_and_writes_nothing(
    wanted: bool, finished: Path, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained = []
    monkeypatch.setattr(processes, "leads", lambda: False)
    monkeypatch.setattr(processes, "agree", lambda _: float(wanted))
    monkeypatch.setattr(search, "train", lambda data, train, folder, progress: trained.append(folder))
    before = {path: path.stat().st_mtime_ns for path in finished.rglob("*")}
    Pipeline(finished / "build", Console(quiet=True)).train(config.train)
    assert trained == ([finished / "build" / "train" / "checkpoints"] if wanted else [])
    assert {path: path.stat().st_mtime_ns for path in finished.rglob("*")} == before


def test_other_contents_of_a_file_are_other_data(config: Config, shop: Path, tmp_path: Path) -> None:
    path = tmp_path / "own.csv"
    steps = Pipeline(tmp_path / "build", Console(file=io.StringIO()))
    keys = []
    for last in ("2024-01-02", "2024-01-03", "2024-01-03"):
        path.write_text(f"user_id,item_id,timestamp\n1,a,2024-01-01\n2,b,{last}\n")
        steps.prepare(Prepare(interactions=path))
        keys.append(result(tmp_path, "prepare")["key"])
    assert keys[0] != keys[1] == keys[2]


def test_a_step_without_the_one_before_is_refused(tmp_path: Path, config: Config) -> None:
    steps = Pipeline(tmp_path, Console(file=io.StringIO()))
    with pytest.raises(DataError, match="prepare has not been run; run `python -m offline prepare` first"):
        steps.train(config.train)
    with pytest.raises(DataError, match="python -m offline evaluate"):
        steps.publish(config.publish, str(tmp_path))


def test_a_new_program_takes_nothing_up(config: Config, finished: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = result(finished, "prepare")["key"]
    monkeypatch.setattr(pipeline, "_program", lambda: "another")
    Pipeline(finished / "build", Console(file=io.StringIO())).prepare(config.prepare)
    assert result(finished, "prepare")["key"] != before
