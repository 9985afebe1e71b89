"""The report of a run: metrics as JSON, a table as Markdown and on screen, a plot."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import cycle
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rich import box
from rich.console import Console
from rich.table import Table

METRICS, TABLE, PLOT = "metrics.json", "report.md", "recall.png"
_TITLES = {"all": "All that users took in the test period", "new": "Items new to the user"}
# Okabe and Ito's palette; markers tell the lines apart without colours.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#000000", "#888888")
_MARKERS = ("o", "s", "^", "D", "v")


def write(metrics: dict[str, Any], folder: Path, console: Console) -> None:
    """Write metrics.json, report.md and recall.png to `folder` and show the table.

    Args:
        metrics: what `evaluation.evaluate` returns.
        folder: exists.
        console: shows the table.
    """
    (folder / METRICS).write_text(json.dumps(metrics, indent=2))
    (folder / TABLE).write_text(markdown(metrics))
    plot(metrics).savefig(folder / PLOT, dpi=130)
    for task in metrics["tasks"]:
        header, rows = _brief(metrics["tasks"][task])
        title = f"{_title(task)} (at {_middle(metrics['tasks'][task])} where not said)"
        table = Table(title=title, title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
        for number, name in enumerate(header):
            table.add_column(name, justify="right" if number else "left", no_wrap=True)
        for row in rows:
            table.add_row(*row)
        console.print(table)
    console.print(_candidates(metrics))


def markdown(metrics: dict[str, Any]) -> str:
    """The report as Markdown."""
    parts = [
        "# Evaluation on the test period",
        f"{metrics['users']:,} users known from training, {metrics['interactions']:,} interactions; every ranking is "
        f"over the full catalogue. Head: the {metrics['head_items']:,} items most popular in training; tail: the rest. "
        "± is half a 95 % confidence interval over users.",
        f"![Recall at K]({PLOT})",
    ]
    for task, measured in metrics["tasks"].items():
        header, rows = _grid(measured)
        lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
        parts += [f"## {_title(task)}", "\n".join(f"| {' | '.join(line)} |" for line in lines)]
    return "\n\n".join([*parts, "## The sparse graph's candidates", _candidates(metrics)]) + "\n"


def plot(metrics: dict[str, Any]) -> Figure:
    """Recall at every cut-off for both tasks, and at one of them for head and tail."""
    figure = Figure(figsize=(15, 4.8), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 3)
    for panel, (task, measured) in zip(panels[:2], metrics["tasks"].items(), strict=True):
        for (name, measures), colour, marker in zip(measured.items(), cycle(_COLOURS), cycle(_MARKERS)):
            cutoffs = [int(k) for k in measures.get("recall", {})]
            recalls = [measures["recall"][str(k)] for k in cutoffs]
            errors = [measures["recall_ci95"][str(k)] or 0 for k in cutoffs]
            panel.errorbar(cutoffs, recalls, errors, label=name, color=colour, marker=marker, capsize=3)
        panel.set(title=_title(task), xlabel="K, items recommended", ylabel="Recall@K, mean over users")
        panel.set_ylim(bottom=0)
        panel.grid(alpha=0.3)

    measured = metrics["tasks"]["all"]
    cutoff = _middle(measured)
    for number, ((name, measures), colour) in enumerate(zip(measured.items(), cycle(_COLOURS))):
        heights = [measures.get(part, {}).get(cutoff) or 0 for part in ("recall_head", "recall_tail")]
        places = [place + (number - 2) * 0.16 for place in range(2)]
        bars = panels[2].bar(places, heights, width=0.15, color=colour, label=name)
        panels[2].bar_label(bars, fmt="%.2f", fontsize=8, padding=1)
    panels[2].set(
        title="Popular and other items",
        ylabel=f"Recall@{cutoff}, mean over users",
        xticks=[0, 1],
        xticklabels=[f"head: {metrics['head_items']:,} items", "tail: the rest"],
    )
    panels[2].legend(frameon=False, loc="upper right")
    return figure


def _grid(measured: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    cutoffs = list(next(iter(measured.values()))["coverage"])
    deep = _middle(measured)
    header = ["ranker", *(f"Recall@{k}" for k in cutoffs), *(f"NDCG@{k}" for k in cutoffs)]
    header += [f"head R@{deep}", f"tail R@{deep}", f"coverage@{deep}"]
    rows = []
    for name, measures in measured.items():
        recalls = [
            f"{_number(_at(measures, 'recall', k))} ± {_number(_at(measures, 'recall_ci95', k))}" for k in cutoffs
        ]
        ndcgs = [_number(_at(measures, "ndcg", k)) for k in cutoffs]
        parts = [_number(_at(measures, part, deep)) for part in ("recall_head", "recall_tail", "coverage")]
        rows.append([name, *recalls, *ndcgs, *parts])
    return header, rows


def _brief(measured: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """The columns that fit a screen."""
    header, rows = _grid(measured)
    deep = _middle(measured)
    kept = [number for number, name in enumerate(header) if not name.startswith("NDCG") or name == f"NDCG@{deep}"]
    short = [header[number].replace("Recall", "R") for number in kept]
    short = [name.removesuffix(f" R@{deep}") if name[1] != "@" else name for name in short]
    short = [name.removesuffix(f"@{deep}") if name[1] != "@" else name for name in short]
    return short, [[row[number].split(" ±")[0] for number in kept] for row in rows]


def _at(measures: Mapping[str, Any], name: str, cutoff: str) -> float | None:
    value: float | None = measures.get(name, {}).get(cutoff)
    return value


def _middle(measured: Mapping[str, Any]) -> str:
    """The cut-off at which head, tail and coverage are shown: the last but one, 50 by default."""
    cutoffs = sorted(next(iter(measured.values()))["coverage"], key=int)
    return str(cutoffs[max(0, len(cutoffs) - 2)])


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _title(task: str) -> str:
    return _TITLES.get(task, task)


def _candidates(metrics: Mapping[str, Any]) -> str:
    found = metrics["candidates"]
    if found["recall"] is None:
        return "Nobody known from training did anything in the test period."
    return (
        f"The clusters of a user hold {found['mean_size']:,.0f} candidates on average, "
        f"among them {found['recall']:.1%} of what the user took."
    )
