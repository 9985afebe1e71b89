"""Results of a benchmark as files: JSON for programs, a Markdown table for people."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.trials import Row, Trials

FOLDER = Path(__file__).parent / "results"


def write(trials: Trials, rows: Sequence[Row], title: str, note: str = "") -> Path:
    """Write <name>.json and <name>.md and return the folder they are in, where a plot may join them.

    Those of --quick stay with their trials; only a whole run changes `benchmarks/results`.

    Args:
        trials: whose commits the results are of.
        rows: what is reported, in the order of the tables.
        title: of the Markdown.
        note: a paragraph of Markdown above the tables.
    """
    folder = trials.folder if trials.quick else FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    found = {
        "commit": ", ".join(sorted({trial.commit for trial in trials.all()})),
        "machine": machine(),
        "rows": [_entry(row) for row in rows],
    }
    (folder / f"{trials.name}.json").write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
    parts = [f"# {title}", *([note] if note else []), f"Mean ± half a 95 % interval over seeds. {found['machine']}."]
    for dataset in dict.fromkeys(row.dataset for row in rows):
        of_set = [row for row in rows if row.dataset == dataset]
        parts += [f"## {dataset}", table(of_set, list(dict.fromkeys(_column(row) for row in of_set)))]
    (folder / f"{trials.name}.md").write_text("\n\n".join(parts) + "\n")
    return folder


def read(name: str) -> list[Row]:
    """The rows of results that are kept."""
    found = json.loads((FOLDER / f"{name}.json").read_text())
    return [Row(**{"group": None, **row}) for row in found["rows"]]


def table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """A Markdown table of one data set: a line a model, a column each metric or metric/group."""
    cells = {(row.model, _column(row)): _cell(row) for row in rows}
    models = [model for model in dict.fromkeys(row.model for row in rows) if any((model, c) in cells for c in columns)]
    lines = [["model", *(column.replace("/", " ") for column in columns)], ["---", *["---:"] * len(columns)]]
    lines += [[model, *(cells.get((model, column), "") for column in columns)] for model in models]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def machine() -> str:
    """What it ran on, in words."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    python, system = platform.python_version(), f"{platform.system()} {platform.machine()}"
    return f"{os.cpu_count()} cores, {memory:.0f} GiB, {system}, Python {python}"


def _entry(row: Row) -> dict[str, Any]:
    return {name: value for name, value in row._asdict().items() if name != "group" or value is not None}


def _column(row: Row) -> str:
    return row.metric if row.group is None else f"{row.metric}/{row.group}"


def _cell(row: Row) -> str:
    digits = 4 if abs(row.mean) < 10 else 1
    spread = "" if row.ci95 is None else f" ± {row.ci95:.{digits}f}"
    return f"{row.mean:.{digits}f}{spread}"
