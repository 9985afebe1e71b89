"""Does the demo learn at least as well from its own towers as from plain ones?

Method: a bundle is trained for each kind of towers and each seed, on the demo's data; then `python -m loadtest.demo`,
the same simulated users with the same seeds, runs on one bundle after the other, so that both meet the same hour of the
machine. Reported: the default arm's click rate, and that of the first and the last third of its visits; differences are
paired by seed. A run is as long as --seconds, so a faster machine shows more slates.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from typing import Annotated

import numpy as np
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import results
from benchmarks.trials import DIFFERENCE, Row, Trials
from loadtest.demo import TRAINING

DATASET = "Online Retail demo"
BEFORE, AFTER = "plain towers", "the demo's towers"
CONFIGS = {
    BEFORE: '[train]\ntower = "two_tower"\ninterests = 1\n[train.density]\nkind = "none"\n',
    AFTER: TRAINING.read_text(),
}
RATES = {"click_rate": "click rate", "first_third": "click rate, first third", "last_third": "click rate, last third"}


def main(
    seeds: Annotated[int, typer.Option(help="Trainings of each kind.")] = 3,
    seconds: Annotated[int, typer.Option(help="Traffic of a run.")] = 60,
    quick: Annotated[bool, typer.Option("--quick", help="Tiny towers, one seed, ten seconds.")] = False,
) -> None:
    """Train, run the demo on each bundle, and print what its default arm reached."""
    trials = Trials("learning", quick=quick)
    for seed in range(1 if quick else seeds):
        for model in CONFIGS:
            trials.run(DATASET, model, seed, lambda: _trial(trials, model, seed, 10 if quick else seconds))  # noqa: B023
    pairs = [trials.difference(DATASET, AFTER, BEFORE, metric) for metric in RATES.values()]
    rows = [*trials.rows(), *(row for row in pairs if row is not None)]
    folder = results.write(trials, rows, "What the demo learns from which towers", "Method: benchmarks/learning.py.")
    plot(rows).savefig(folder / "learning.png", dpi=130)
    typer.echo((folder / "learning.md").read_text())


def plot(rows: list[Row]) -> Figure:
    """Click rates of both kinds of towers, with intervals."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, (model, colour) in enumerate(zip(CONFIGS, ("#888888", "#0072B2"), strict=True)):
        of_model = [row for row in rows if row.model == model and DIFFERENCE not in row.metric]
        places = np.arange(len(of_model)) + (number - 0.5) * 0.38
        heights, errors = [row.mean for row in of_model], [row.ci95 or 0 for row in of_model]
        bars = axes.bar(places, heights, width=0.36, yerr=errors, capsize=3, color=colour, label=model)
        axes.bar_label(bars, fmt="{:.1%}", padding=3, fontsize=8)
    axes.set(ylabel="clicks per impression of the default arm", xticks=range(len(RATES)), xticklabels=RATES.values())
    axes.legend(frameon=False, loc="lower right")
    return figure


def _trial(trials: Trials, model: str, seed: int, seconds: int) -> Mapping[str, float]:
    folder = trials.folder / "runs" / f"{model} {seed}".replace(" ", "-").replace("'", "")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.toml").write_text(CONFIGS[model])
    root = str(folder / "bundles")
    job = ["offline", "run", "--config", f"{folder}/config.toml", "--work", f"{folder}/build", "--bundles", root]
    _run([*job, "--seed", str(seed), *(["--quick"] if trials.quick else [])])
    demo = ["loadtest.demo", "--bundles", root, "--state", f"{folder}/state", "--report", f"{folder}/report"]
    _run([*demo, "--seed", str(seed + 1), "--seconds", str(seconds)])
    arm = json.loads((folder / "report" / "summary.json").read_text())["arms"]["default"]
    return {name: arm[key] for key, name in RATES.items()}


def _run(command: list[str]) -> None:
    subprocess.run([sys.executable, "-m", *command], check=True)


if __name__ == "__main__":
    typer.run(main)
