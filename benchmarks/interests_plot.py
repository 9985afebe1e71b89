"""The plot of `benchmarks.interests`: tail against overall HR@20, a panel a data set."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.trials import DIFFERENCE, Row

METRIC = "HR@20"
_GREY = "#9a9a9a"
_COLOURS = ("#0072B2", "#E69F00", "#D55E00")


def plot(rows: Sequence[Row], stressed: Sequence[str]) -> Figure:
    """Each model a point with its 95 % intervals; those of the main comparison in colours and joined."""
    datasets = list(dict.fromkeys(row.dataset for row in rows))
    figure = Figure(figsize=(4.2 * max(len(datasets), 1), 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, max(len(datasets), 1), squeeze=False)[0]
    for axes, dataset in zip(panels, datasets, strict=True):
        points = _points([row for row in rows if row.dataset == dataset])
        path = [points[model] for model in stressed if model in points]
        axes.plot([overall.mean for overall, _ in path], [tail.mean for _, tail in path], color="#cccccc", zorder=0)
        for model, (overall, tail) in points.items():
            colour = _COLOURS[list(stressed).index(model)] if model in stressed else _GREY
            axes.errorbar(
                overall.mean, tail.mean, xerr=overall.ci95, yerr=tail.ci95, fmt="o", color=colour, capsize=2, ms=5
            )
            place = (overall.mean, tail.mean)
            axes.annotate(model, place, (5, 4), textcoords="offset points", fontsize=7, color=colour)
        axes.set(title=dataset, xlabel=f"{METRIC}, overall", ylabel=f"{METRIC}, tail")
        axes.margins(0.25)
    return figure


def _points(rows: Sequence[Row]) -> dict[str, tuple[Row, Row]]:
    """Each model's overall and tail row."""
    found = {(row.model, row.group): row for row in rows if row.metric == METRIC and DIFFERENCE not in row.metric}
    models = [model for model, group in found if group is None and (model, "tail") in found]
    return {model: (found[model, None], found[model, "tail"]) for model in models}
