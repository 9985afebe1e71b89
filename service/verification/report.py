"""The report of a pass: one JSON object for machines, a table for people."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from rich.console import Console
from rich.table import Table

from bandit.statistics import SCALE
from service.verification.comparison import Comparison
from service.verification.repair import Repaired
from service.verification.verifier import Pass

MOST_LINES = 20


def figures(found: Pass) -> dict[str, object]:
    """What a pass found, in numbers. `cut`: the lowest and highest watermark of each partition that was compared."""
    return found.comparison.figures() | {
        "rows_unread": found.unread,
        "records": found.recomputation.records,
        "from": found.started_from,
        "snapshot": found.snapshot,
        "cut": {
            str(p): [found.cut.least(p), found.cut.most(p)] for p in range(len(found.recomputation.state.positions))
        },
        "seconds": round(found.seconds, 3),
    }


def repaired_figures(repaired: Repaired, after: Comparison) -> dict[str, object]:
    """What a repair did, and what a second pass found."""
    return {
        "edges_repaired": repaired.edges,
        "totals_repaired": repaired.totals,
        "shards_not_repaired": {str(shard): why for shard, why in repaired.failed.items()},
        "edges_different_after": after.figures()["edges_different"],
        "totals_different_after": len(after.total_differences),
    }


def show(console: Console, comparison: Comparison, against: str = "the log") -> None:
    """Print the first differences as a table; one line if there are none."""
    if comparison.equal:
        console.print(f"{comparison.edges} edges in {comparison.rows} rows equal {against}.")
        return
    table = Table("what", "sum", "live", f"from {against}", "difference", title=f"What differs from {against}")
    for line in islice(_lines(comparison), MOST_LINES):
        table.add_row(*line)
    console.print(table)
    figures = comparison.figures()
    console.print(
        f"{figures['edges_different']} of {comparison.edges} edges differ: {figures['lost']} hold less,"
        f" {figures['counted_twice']} more than {against} says; {len(comparison.total_differences)} totals differ."
    )


def _lines(comparison: Comparison) -> Iterator[tuple[str, str, str, str, str]]:
    for total in comparison.total_differences:
        what = f"totals of shard {total.shard}"
        yield what, total.outcome, str(total.live), str(total.expected), f"{total.live - total.expected:+d}"
    for row in comparison.row_differences:
        for slot, live, expected in zip(row.slots.tolist(), row.live.tolist(), row.expected.tolist(), strict=True):
            for name, held, wanted in zip("dnb", live, expected, strict=True):
                if held != wanted:
                    what = f"{row.name} slot {slot}{' (no row)' if row.missing else ''}"
                    natural = f"{(held - wanted) / SCALE:+.6g} ({held - wanted:+d})"
                    yield what, name, f"{held / SCALE:.6g}", f"{wanted / SCALE:.6g}", natural
