"""The live view: what a person watches while the traffic runs, and the table that stays at the end."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from loadtest import report
from loadtest.monitor import Monitor
from loadtest.traffic import Traffic

RECENT_S = 30.0
BAR = "cyan"


class Live:
    """Renders a run under way."""

    def __init__(self, traffic: Traffic, monitor: Monitor, policies: Mapping[str, str], seconds: float) -> None:
        self._traffic = traffic
        self._monitor = monitor
        self._policies = policies
        self._seconds = seconds
        self._began = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since the traffic began."""
        return min(time.monotonic() - self._began, self._seconds)

    def __rich__(self) -> RenderableType:
        """Progress, the arms, and the pulse of the service."""
        elapsed = self.elapsed
        progress = Table.grid(padding=(0, 1))
        progress.add_row(
            "Traffic",
            ProgressBar(self._seconds, elapsed, 50, complete_style=BAR, finished_style=BAR),
            f"{elapsed:.0f}/{self._seconds:.0f} s",
        )
        return Group(progress, self._arms(elapsed), Text(self._pulse(elapsed), style="dim"))

    def line(self) -> str:
        """The same in one line, for output that is no terminal."""
        visits = self._traffic.visits.visits()
        arms = report.arms(visits, self._policies)
        rates = "  ".join(f"{name} {arm['click_rate']:.1%}" for name, arm in arms.items())
        return f"{self.elapsed:4.0f} s  {rates}  | {self._pulse(self.elapsed)}"

    def _arms(self, elapsed: float) -> Table:
        visits = self._traffic.visits.visits()
        table = Table(box=None, header_style="dim", padding=(0, 2, 0, 0))
        table.add_column("arm")
        for name in ("impressions", "clicks", "click rate", f"last {RECENT_S:.0f} s"):
            table.add_column(name, justify="right")
        table.add_column("")
        ceiling = report.oracle(visits)
        for number, (name, policy) in enumerate(self._policies.items()):
            own = visits.of_arm(number)
            rate = report.click_rate(own.clicked, own.shown).rate
            late = report.recent(own, elapsed, RECENT_S).rate
            table.add_row(
                Text(name, style="bold" if number == 0 else "") + Text("" if name == policy else f"  {policy}", "dim"),
                f"{own.shown.sum():,}", f"{own.clicked.sum():,}", f"{rate:.2%}", f"{late:.2%}",
                ProgressBar(max(ceiling["click_rate"], 1e-9), late, 24, complete_style=BAR, finished_style=BAR),
            )  # fmt: skip
        table.add_row(
            "oracle",
            f"{ceiling['impressions']:,}",
            f"{ceiling['clicks']:,}",
            f"{ceiling['click_rate']:.2%}",
            style="dim",
        )
        return table

    def _pulse(self, elapsed: float) -> str:
        delivery, folded = self._traffic.delivery, self._monitor.folded
        fresh = report.freshness_ms(self._monitor.freshness)
        parts = [
            f"{len(self._traffic.visits) / max(elapsed, 1e-9):,.0f} visits/s",
            "freshness "
            + ", ".join(f"{name} {'–' if value is None else f'{value:.0f} ms'}" for name, value in fresh.items()),
            f"{delivery.accepted:,} events accepted",
            f"{sum(folded.values()):,} folded" if folded is not None else "fold: no answer yet",
        ]
        if delivery.retries:
            parts.append(f"{delivery.retries:,} requests sent again")
        return "   ".join(parts)


def final_table(arms: Mapping[str, Mapping[str, Any]], oracle: Mapping[str, Any]) -> Table:
    """The arms as they ended, best first; names without a policy of their own name are told apart below."""
    table = Table(title="Click rate by arm", title_justify="left", title_style="bold", header_style="dim", box=None)
    table.add_column("arm", no_wrap=True)
    for name in ("impressions", "clicks", "rate", "95 % interval", "first ⅓", "last ⅓"):
        table.add_column(name, justify="right", no_wrap=True)
    rows = {name: arms[name] for name in report.ranking(arms)} | {"oracle": oracle}
    for name, row in rows.items():
        low, high = row["ci95"]
        thirds = [f"{row[third]:.2%}" if third in row else "" for third in ("first_third", "last_third")]
        cells = [f"{row['impressions']:,}", f"{row['clicks']:,}", f"{row['click_rate']:.2%}", f"{low:.2%}–{high:.2%}"]
        style = "dim" if name == "oracle" else "bold" if name == "default" else ""
        table.add_row(name, *cells, *thirds, style=style)
    others = [f"{name}: {arm['policy']}" for name, arm in arms.items() if name != arm["policy"]]
    table.caption = ". ".join([*others, "oracle: the best slate of every visitor, which nobody can know"])
    table.caption_justify = "left"
    return table
