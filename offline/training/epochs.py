"""Epochs: steps in a row with their checkpoints, as long as validation says that they help.

What was interrupted goes on from its last checkpoint and ends as if it had not been, if every step is a function of its
number alone.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.progress import Progress

from offline.training import processes
from offline.training.checkpoints import Checkpoints


class Plan(NamedTuple):
    """How long, and what is kept.

    Attributes:
        epochs: at most.
        per_epoch: steps an epoch.
        patience: epochs in a row that may bring nothing better.
        checkpoint_steps: steps between two checkpoints; there is one after every epoch, too.
        anew: whether what is trained is new, so that it is worth 0 before the first epoch, however it may rank by luck.
    """

    epochs: int
    per_epoch: int
    patience: int
    checkpoint_steps: int
    anew: bool = False


def run(
    plan: Plan,
    folder: Path,
    modules: tuple[Any, ...],
    step: Callable[[int, int], None],
    progress: Progress,
    title: str,
    validate: Callable[[], float] | None = None,
) -> tuple[int, list[float]]:
    """Go through epochs, from the last checkpoint if there is one.

    With `validate` it ends early, once `patience` epochs in a row brought nothing better, and the modules are left as
    they were after the best epoch, or before the first if all were worse.

    Args:
        plan: how long.
        folder: of the checkpoints.
        modules: what is trained: the model, the optimiser.
        step: does step n of epoch e: e, n.
        progress: gets a bar.
        title: of the bar.
        validate: how good the modules are as they stand.

    Returns:
        How many epochs were gone through, and what `validate` said before the first and after each.
    """
    with Checkpoints(folder / "last", modules) as last, Checkpoints(folder / "best", modules) as best:
        at, record = last.restore()
        bar = progress.add_task(title, total=plan.epochs * plan.per_epoch, completed=at)
        if validate is not None and not record:
            record.append(0.0 if plan.anew else processes.agree(validate()))
            best.save(0, record)
        while at < plan.epochs * plan.per_epoch and not _patience_is_over(record, plan.patience):
            epoch, number = divmod(at, plan.per_epoch)
            step(epoch, number)
            at += 1
            epoch_ends = at % plan.per_epoch == 0
            if epoch_ends and validate is not None:
                record.append(processes.agree(validate()))
                progress.update(bar, description=f"{title}: epoch {epoch + 1}, {record[-1]:.4f}")
                if best_epochs(record) == epoch + 1:
                    best.save(at, record)
            if epoch_ends or at % plan.checkpoint_steps == 0:
                last.save(at, record)
            progress.update(bar, completed=at)
        if validate is not None:
            best.restore()
        progress.update(bar, completed=at, total=at)
    return at // plan.per_epoch, record


def best_epochs(record: list[float]) -> int:
    """After how many epochs validation found what is trained best; the fewest of equals."""
    return int(np.argmax(record))


def _patience_is_over(record: list[float], patience: int) -> bool:
    return bool(record) and len(record) - 1 - best_epochs(record) >= patience
