"""The pipeline: steps, each in a folder of its own under the work folder, redone only when something changed.

A step's key is a digest of its configuration, of the step before it and of this program; the first one's also of the
input files. `step.json` in a step's folder holds the key of what is in there and whether it is finished, so a training
that was killed goes on from its checkpoints, and one whose configuration changed starts anew.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from bandit import bundle as bundles
from bandit.models import FEATURES
from offline import publishing, report, vectors
from offline.config import Build, Config, Evaluate, Prepare, Publish, Rank, Train
from offline.data import dataset, tables
from offline.errors import ConfigError, DataError
from offline.evaluation import evaluation
from offline.export import networks
from offline.ranker import ranked

PREPARE, TRAIN, BUILD, RANK, REPORT, PUBLISH = "prepare", "train", "build", "rank", "report", "publish"
_STEP = "step.json"
_VECTORS = "vectors.safetensors"
_RANKED = "ranked.safetensors"


class Pipeline:
    """The steps over one work folder.

    Args:
        work: where steps leave their results.
        console: told what happens.
    """

    def __init__(self, work: Path, console: Console) -> None:
        self.work, self.console = work, console

    def run(self, config: Config, root: str) -> str:
        """All steps; returns the published version."""
        self.prepare(config.prepare)
        self.train(config.train)
        self.build(config.build)
        self.rank(config.rank)
        self.evaluate(config.evaluate)
        return self.publish(config.publish, root)

    def prepare(self, config: Prepare) -> None:
        """Read, check and write the tables."""
        config = tables.with_defaults(config)
        files = [_file_digest(path) for path in (config.interactions, config.items, config.users) if path]

        def action(folder: Path) -> dict[str, Any]:
            split = tables.prepare(config, folder, self.console.print)
            return {"split": split.model_dump(mode="json")}

        self._step(PREPARE, config, files, action)

    def train(self, config: Train) -> None:
        """Train the towers and embed all users and items.

        Of several processes (`processes.join`) process 0 does this and the others help it: they write nothing but their
        part of the checkpoints. All see the same work folder.
        """
        # JAX and scikit-learn take seconds to import, and most commands do without.
        from offline.export import towers  # noqa: PLC0415
        from offline.training import processes, search  # noqa: PLC0415

        before = self._finished(PREPARE)
        checkpoints = self.work / TRAIN / "checkpoints"
        if not processes.leads():
            if processes.agree(0):
                search.train(dataset.load(self.work / PREPARE), config, checkpoints, Progress(disable=True))
            return

        begun = False

        def action(folder: Path) -> dict[str, Any]:
            nonlocal begun
            begun = bool(processes.agree(1))
            data = dataset.load(self.work / PREPARE)
            with self._progress() as progress:
                trained = search.train(data, config, checkpoints, progress)
            vectors.save(trained.vectors, folder / _VECTORS)
            networks.save(towers.networks(data, trained, config), folder)
            return {
                "validation_recall": trained.records,
                "validation_users": trained.validation_users,
                "epochs": trained.epochs,
            }

        self._step(TRAIN, config, [before["key"]], action)
        if not begun:
            processes.agree(0)

    def build(self, config: Build) -> None:
        """Cluster users, draw the graph, and write the draft of the bundle."""
        before = self._finished(TRAIN)

        def action(folder: Path) -> dict[str, Any]:
            data = dataset.load(self.work / PREPARE)
            draft = publishing.assemble(data, vectors.load(self.work / TRAIN / _VECTORS), config)
            bundles.write(draft, str(folder))
            return {"counts": draft.manifest.counts.model_dump()}

        self._step(BUILD, config, [before["key"]], action)

    def rank(self, config: Rank) -> None:
        """Train the ranker; where it is not enabled, none is left from before."""
        if not config.enabled:
            shutil.rmtree(self.work / RANK, ignore_errors=True)
            return
        # JAX takes seconds to import.
        from offline.ranker import job  # noqa: PLC0415

        before = self._finished(BUILD)
        towers = Train.model_validate(self._finished(TRAIN)["config"])
        if towers.tower != "hiformer":
            raise ConfigError('the ranker reads features as Hiformers do: set train.tower = "hiformer"')

        def action(folder: Path) -> dict[str, Any]:
            data = dataset.load(self.work / PREPARE)
            draft, fed = publishing.read_draft(self.work / BUILD), networks.load(self.work / TRAIN)
            with self._progress() as progress:
                done = job.run(data, draft, fed.models[FEATURES], towers.feature_buckets, config, folder, progress)
            networks.save(networks.Networks(done.models), folder)
            ranked.save(done.ranked, folder / _RANKED)
            return done.metrics

        self._step(RANK, config, [before["key"]], action)

    def evaluate(self, config: Evaluate) -> None:
        """Measure the towers, the draft and the ranker, if there is one, on the test period; write the report."""
        before = [self._finished(BUILD), *self._ranked().values()]

        def action(folder: Path) -> dict[str, Any]:
            data = dataset.load(self.work / PREPARE)
            draft = publishing.read_draft(self.work / BUILD)
            known = ranked.load(self.work / RANK / _RANKED) if self._ranked() else None
            rankers = evaluation.rankers(data, vectors.load(self.work / TRAIN / _VECTORS), draft, known)
            test = dataset.test_period(self.work / PREPARE, data)
            metrics = evaluation.evaluate(data, test, draft, rankers, config)
            report.write(metrics, folder, self.console)
            return metrics

        self._step(REPORT, config, [step["key"] for step in before], action)

    def publish(self, config: Publish, root: str) -> str:
        """Write the bundle under `root` and return its version."""
        before = self._finished(REPORT)
        steps = {name: self._finished(name) for name in (PREPARE, TRAIN, BUILD, REPORT)}
        steps |= self._ranked()

        def action(folder: Path) -> dict[str, Any]:  # noqa: ARG001
            provenance = {name: step["config"] for name, step in steps.items()}
            metrics = {name: step["result"] for name, step in steps.items() if name in {TRAIN, RANK, REPORT}}
            draft = publishing.equip(
                publishing.read_draft(self.work / BUILD),
                networks.load(self.work / TRAIN),
                networks.load(self.work / RANK),
            )
            return {"version": publishing.publish(draft, root, config, provenance, metrics, self.console.print)}

        done = self._read(PUBLISH)
        if done and not publishing.exists(root, done["result"].get("version", "")):
            shutil.rmtree(self.work / PUBLISH)
        version = str(self._step(PUBLISH, config, [before["key"], root], action)["version"])
        self.console.print(f"Bundle [bold]{version}[/] is in {root}")
        return version

    def _step(
        self, name: str, config: BaseModel, inputs: list[str], action: Callable[[Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """Do a step unless it is done, and return its result."""
        settings = config.model_dump(mode="json")
        key = hashlib.sha256(json.dumps([name, settings, inputs, _program()]).encode()).hexdigest()
        folder = self.work / name
        done = self._read(name)
        if done and done["key"] == key and done["finished"]:
            self.console.print(f"[green]✓[/] {name}: unchanged")
            return dict(done["result"])
        resumes = name in {TRAIN, RANK} and done and done["key"] == key
        if folder.exists() and not resumes:
            shutil.rmtree(folder)
        folder.mkdir(parents=True, exist_ok=True)
        record: dict[str, Any] = {"key": key, "finished": False, "config": settings, "seconds": 0.0, "result": {}}
        (folder / _STEP).write_text(json.dumps(record))
        self.console.print(f"[cyan]▸[/] {name}")
        start = time.perf_counter()
        record["result"] = action(folder)
        record["seconds"], record["finished"] = round(time.perf_counter() - start, 2), True
        (folder / _STEP).write_text(json.dumps(record, indent=2))
        self.console.print(f"[green]✓[/] {name}: {record['seconds']:.1f} s")
        return dict(record["result"])

    def _progress(self) -> Progress:
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        return Progress(*columns, console=self.console)

    def _ranked(self) -> dict[str, dict[str, Any]]:
        """The ranker's step by its name, if it was done."""
        return {RANK: self._finished(RANK)} if self._read(RANK) else {}

    def _finished(self, name: str) -> dict[str, Any]:
        done = self._read(name)
        if not done or not done["finished"]:
            command = "evaluate" if name == REPORT else name
            raise DataError(f"{self.work}: {command} has not been run; run `python -m offline {command}` first")
        return done

    def _read(self, name: str) -> dict[str, Any]:
        path = self.work / name / _STEP
        found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
        return found


def _file_digest(path: Path) -> str:
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _program() -> str:
    """A digest of this program's sources, so that a new one does not take up what an old one left."""
    root = Path(__file__).parent.parent
    sources = sorted([*root.glob("offline/**/*.py"), *root.glob("bandit/**/*.py")])
    return hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
