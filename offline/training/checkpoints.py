"""Checkpoints: the state of a training on disk, so that one that was killed goes on."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any, Self

import jax
import orbax.checkpoint as ocp
from flax import nnx


class Checkpoints:
    """The last checkpoint of one training, in a folder; to be used in a `with`.

    Args:
        folder: of this training alone.
        modules: what is kept and restored: the model, the optimiser.
    """

    def __init__(self, folder: Path, modules: tuple[Any, ...]) -> None:
        self.modules = modules
        options = ocp.CheckpointManagerOptions(max_to_keep=1, enable_async_checkpointing=False)
        self._manager = ocp.CheckpointManager(folder.resolve(), options=options)

    def __enter__(self) -> Self:
        """Nothing happens."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Let go of the folder."""
        self._manager.close()

    def save(self, step: int, record: list[float]) -> None:
        """Keep the modules as they stand after `step` steps, and what validation has said until then."""
        state = ocp.args.StandardSave(nnx.to_pure_dict(nnx.state(self.modules)))
        self._manager.save(step, args=ocp.args.Composite(state=state, record=ocp.args.JsonSave(record)))

    def restore(self) -> tuple[int, list[float]]:
        """Put the modules where the last checkpoint left them; its step (0 without one) and record."""
        step = self._manager.latest_step()
        if step is None:
            return 0, []
        state = nnx.state(self.modules)
        like = jax.tree.map(ocp.utils.to_shape_dtype_struct, nnx.to_pure_dict(state))
        found = self._manager.restore(
            step, args=ocp.args.Composite(state=ocp.args.StandardRestore(like), record=ocp.args.JsonRestore())
        )
        nnx.replace_by_pure_dict(state, found["state"])
        nnx.update(self.modules, state)
        return int(step), list(found["record"])
