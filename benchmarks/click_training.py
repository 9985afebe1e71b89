"""Training a model of clicks: log-loss with a penalty on the embeddings, the epoch that is best in validation is kept.

The step size falls along a cosine to 0 over as many epochs as allowed; training ends early once two epochs in a row
brought nothing better. On data this small the penalty on all embeddings decides how good a model gets.
"""

from __future__ import annotations

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax  # type: ignore[import-untyped]
from flax import nnx
from numpy.typing import NDArray
from sklearn.metrics import log_loss, roc_auc_score

from benchmarks.data.clicks import Clicks, Rows
from offline.interactions.click_model import ClickModel
from offline.towers.projection import Composite, PerToken

PATIENCE = 2
ROWS_AT_ONCE = 8192


class Settings(NamedTuple):
    """How a model is trained.

    Attributes:
        penalty: times half the sum of all embeddings' squares is added to the log-loss.
        epochs: at most.
        batch: rows a step.
        learning_rate: Adam's at the start.
        even: whether matrices that are kept scaled are moved as far as others; see `adam`.
    """

    penalty: float
    epochs: int
    batch: int = 4096
    learning_rate: float = 1e-3
    even: bool = False


class Fitted(NamedTuple):
    """What training gives.

    Attributes:
        model: with the best epoch's parameters, as it is used.
        validation: AUC after each epoch.
        seconds: of one core's time, without compiling and validating.
    """

    model: ClickModel
    validation: list[float]
    seconds: float


def fit(model: ClickModel, clicks: Clicks, settings: Settings, seed: int) -> Fitted:
    """Train a model; the seed gives the order of rows."""
    batch = min(settings.batch, len(clicks.train.labels))
    steps = len(clicks.train.labels) // batch
    optimiser = adam(model, settings.learning_rate, settings.epochs * steps, even=settings.even)
    model.train()  # type: ignore[no-untyped-call]
    graph, parameters, *others = nnx.split(model, nnx.Param, ...)
    state = (parameters, others[0], optimiser.init(parameters))
    rows = jax.tree.map(jnp.asarray, clicks.train)
    orders = np.random.default_rng(seed)

    def shuffled() -> NDArray[np.int64]:
        return orders.permutation(len(clicks.train.labels))[: steps * batch].reshape(steps, batch)

    epoch = jax.jit(partial(_epoch, graph, optimiser, settings.penalty)).lower(state, rows, shuffled()).compile()
    record: list[float] = []
    best, seconds = state, 0.0
    while len(record) < settings.epochs and len(record) - _best(record) < PATIENCE:
        started = time.process_time()
        state = jax.block_until_ready(epoch(state, rows, shuffled()))  # type: ignore[no-untyped-call]
        seconds += time.process_time() - started
        nnx.update(model, state[0], state[1])
        record.append(roc_auc_score(clicks.validation.labels, predict(model, clicks.validation)))
        if _best(record) == len(record):
            best = state
    nnx.update(model, best[0], best[1])
    return Fitted(model, record, seconds)


def predict(model: ClickModel, rows: Rows) -> NDArray[np.float64]:
    """Probability of an answer, float64[N]."""
    model.eval()  # type: ignore[no-untyped-call]
    found = []
    for start in range(0, len(rows.labels), ROWS_AT_ONCE):
        part = slice(start, start + ROWS_AT_ONCE)
        ids, numbers = _filled(rows.ids[part]), _filled(rows.numbers[part])
        found.append(np.asarray(logits(model, ids, numbers), np.float64)[: len(rows.labels[part])])
    model.train()  # type: ignore[no-untyped-call]
    return np.asarray(1 / (1 + np.exp(-np.concatenate(found))))


def quality(model: ClickModel, rows: Rows) -> dict[str, float]:
    """AUC and log-loss."""
    found = predict(model, rows)
    return {"AUC": float(roc_auc_score(rows.labels, found)), "log-loss": float(log_loss(rows.labels, found))}


def adam(model: nnx.Module, learning_rate: float, steps: int, *, even: bool) -> optax.GradientTransformation:
    """Adam; where `even`, all models' matrices learn alike.

    Hiformer's projections keep a matrix W as √inputs · W, so that Adam moves W less far than one that is kept as it is.
    Even, they are moved √inputs times as far, which makes up for it.
    """
    plain = optax.adam(optax.cosine_decay_schedule(learning_rate, steps))
    if not even:
        return plain
    projections = {path for path, module in nnx.iter_modules(model) if isinstance(module, PerToken | Composite)}

    def reach(path: tuple[Any, ...], value: Any) -> float:
        names = tuple(getattr(part, "key", getattr(part, "name", getattr(part, "idx", None))) for part in path)
        scaled = "bias" not in names and any(names[: len(outer)] == outer for outer in projections)
        return float(np.sqrt(value.shape[-2])) if scaled else 1.0

    reaches = jax.tree.map_with_path(reach, nnx.state(model, nnx.Param))
    return optax.chain(
        plain,
        optax.stateless(lambda change, _: jax.tree.map(jnp.multiply, change, reaches)),
    )


@nnx.jit
def logits(model: ClickModel, ids: jax.Array, numbers: jax.Array) -> jax.Array:
    """ids int32[B, C], numbers float32[B, D] → float32[B], compiled."""
    return model(ids, numbers)


def _filled(values: NDArray[Any]) -> jax.Array:
    """Rows of zeros at the end make all parts equally long: one compilation."""
    return jnp.asarray(np.pad(values, ((0, ROWS_AT_ONCE - len(values)), (0, 0))))


def _best(record: list[float]) -> int:
    """The best epoch, counted from 1; 0 before there is one."""
    return int(np.argmax(record)) + 1 if record else 0


def _epoch(graph: Any, optimiser: Any, penalty: float, state: Any, rows: Rows, order: jax.Array) -> Any:
    def loss(parameters: Any, rest: Any, places: jax.Array) -> tuple[jax.Array, Any]:
        model = nnx.merge(graph, parameters, rest, copy=True)
        found = model(rows.ids[places], rows.numbers[places])
        penalties = 0.5 * penalty * jnp.sum(model.embeddings.table[...] ** 2)
        mean = jnp.mean(optax.sigmoid_binary_cross_entropy(found, rows.labels[places]))
        return mean + penalties, nnx.state(model, nnx.Not(nnx.Param))

    def step(state: Any, places: jax.Array) -> tuple[Any, None]:
        parameters, rest, moments = state
        gradient, rest = jax.grad(loss, has_aux=True)(parameters, rest, places)
        change, moments = optimiser.update(gradient, moments, parameters)
        return (optax.apply_updates(parameters, change), rest, moments), None

    return jax.lax.scan(step, state, order)[0]
