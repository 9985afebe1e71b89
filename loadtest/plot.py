"""The plot: how each arm's click rate changes as it is shown more often."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, PercentFormatter

from loadtest import report
from loadtest.visits import Visits

# Okabe and Ito's colours, which stay apart for colour-blind eyes too; the first arm's is the darkest.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
CEILING = "#555555"
LEAST_GAP = 0.045


def learning(visits: Visits, names: Sequence[str], path: Path) -> None:
    """Draw the arms (at most seven; names in the order of their numbers) and the oracle as an image at `path`."""
    figure = Figure(figsize=(9, 5.4), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    curves = [report.curve(own.clicked, own.shown) for own in map(visits.of_arm, range(len(names)))]
    lines = [line for line in zip(names, curves, COLOURS, strict=False) if len(line[1].rate)]
    ceiling = report.click_rate(visits.oracle_clicked, visits.oracle_shown).rate
    top = max([ceiling, *(curve.high.max() for _, curve, _ in lines)]) * 1.08 or 1.0
    right = max((curve.impressions[-1] for _, curve, _ in lines), default=1.0)

    for name, curve, colour in lines:
        axes.fill_between(curve.impressions, curve.low, curve.high, color=colour, alpha=0.15, linewidth=0)
        axes.plot(curve.impressions, curve.rate, color=colour, linewidth=2.6 if name == names[0] else 1.6)
    axes.axhline(ceiling, color=CEILING, linewidth=1.2, linestyle=(0, (4, 3)))

    labels = [(f"{name}  {curve.rate[-1]:.1%}", curve.rate[-1] / top, colour) for name, curve, colour in lines]
    labels.append((f"oracle  {ceiling:.1%}", ceiling / top, CEILING))
    for (text, _, colour), height in zip(labels, _apart([height for _, height, _ in labels]), strict=True):
        axes.text(
            1.01, height, text, color=colour, transform=axes.transAxes, va="center",
            fontsize=10, fontweight="bold" if text.startswith(f"{names[0]} ") else "normal",
        )  # fmt: skip

    axes.set(xlim=(0, right), ylim=(0, top), xlabel="impressions shown by the arm")
    axes.set_title("Click rate while learning from clicks", loc="left", fontsize=13, pad=22)
    axes.text(
        0, 1.025, "over a sliding tenth of the arm's visits, the last beside its name; bands: 95 % intervals",
        transform=axes.transAxes, fontsize=9, color=CEILING,
    )  # fmt: skip
    axes.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axes.grid(axis="y", color="#DDDDDD", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)


def _apart(heights: Sequence[float]) -> list[float]:
    """The same heights, moved up as little as keeps labels from covering one another."""
    order = np.argsort(heights)
    placed = np.array(heights, dtype=float)
    for below, above in pairwise(order):
        placed[above] = max(placed[above], placed[below] + LEAST_GAP)
    return placed.tolist()  # type: ignore[no-any-return]
