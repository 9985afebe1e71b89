"""`python -m benchmarks.readme`: the README's tables of results, made anew from the JSON under `benchmarks/results`.

A table stands between `<!-- results: NAME | DATA SET | COLUMN, COLUMN/GROUP, … -->` and `<!-- end -->`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from benchmarks import results

README = Path(__file__).parent.parent / "README.md"
_TABLE = re.compile(r"(<!-- results: ([^|>]+?) \| ([^|>]+?) \| ([^|>]+?) -->\n).*?(<!-- end -->)", re.DOTALL)


def renewed(text: str) -> str:
    """A README's text with every table as the results have it now. Raises KeyError if a table would be empty."""
    return _TABLE.sub(_table, text)


def main(path: Annotated[Path, typer.Argument(help="The file whose tables are renewed.")] = README) -> None:
    """Renew the README's tables."""
    path.write_text(renewed(path.read_text()))


def _table(found: re.Match[str]) -> str:
    opening, name, dataset, columns, closing = found.groups()
    rows = [row for row in results.read(name) if row.dataset == dataset]
    if not rows:
        raise KeyError(f"benchmarks/results/{name}.json has no data set {dataset!r}")
    return f"{opening}{results.table(rows, [column.strip() for column in columns.split(',')])}\n{closing}"


if __name__ == "__main__":
    typer.run(main)
