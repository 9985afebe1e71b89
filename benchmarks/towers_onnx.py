"""Do the exported networks say what JAX says, and how long do they take for one request on one core?

Method, on the items and users of Online Retail: towers and ranker of the offline job's default sizes, with parameters
drawn at random (all of them, so that nothing is 0 as it is before training; neither the time nor the rounding depends
on what they have learned), are exported as the job exports them. onnxruntime runs them with one thread, this process
pinned to one core; each call is timed in Python, from numpy arrays to numpy arrays, after some to warm up. A user has a
history of 50 items; the ranker gets 200 candidates.

- `user tower`, `item tower`: one user's interests, one fresh item's vector;
- `ranker, user half`: once a request, with what depends on the user alone;
- `ranker, item half`: all candidates, given that;
- `ranker, both halves`: what a request pays;
- `ranker, un-split`: the same network in one model that computes every pair of user and candidate whole.

Metrics: `difference ppm`, the greatest from JAX in any output over some users, items or pairs, in 10⁻⁶; `p50 ms` and
`p99 ms` of a call. Other work on the machine shows in the latter.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import cache, lru_cache
from pathlib import Path
from typing import Annotated, Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
import onnxruntime
import typer
from flax import nnx
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.progress import Progress

from bandit.models import ITEM_TOWER, RANKER_ITEM, RANKER_USER, USER_TOWER
from benchmarks import results
from benchmarks.trials import Row, Trials
from offline.batches import UNKNOWN
from offline.config import Prepare, Rank, Train
from offline.data import dataset, tables
from offline.export import ranker as ranker_export
from offline.export import towers as towers_export
from offline.export.onnx import convert, feature_arrays, feature_inputs, features_of, of_shape
from offline.ranker.known import Known
from offline.ranker.ranker import Items, Ranker
from offline.towers.two_tower import TwoTower
from offline.training.features import Features, describe, text_encoder
from offline.vectors import take

DATASET = "Online Retail"
HISTORY, CANDIDATES, CALLS, WARM = 50, 200, 2000, 100
USER, ITEM = "user tower", "item tower"
HALVES, OF_USER, OF_ITEMS = "ranker, both halves", "ranker, user half", "ranker, item half"
UNSPLIT = "ranker, un-split"
MODELS = (USER, ITEM, OF_USER, OF_ITEMS, HALVES, UNSPLIT)
Model = TypeVar("Model", bound=nnx.Module)
Arrays = dict[str, Any]


class Case(NamedTuple):
    """One network at work: a call, as a server makes it, and how far its answers are from JAX's."""

    call: Callable[[], Any]
    difference: float


def main(
    seeds: Annotated[int, typer.Option(help="Draws of parameters, users and candidates.")] = 3,
    quick: Annotated[bool, typer.Option("--quick", help="One seed, fewer calls.")] = False,
) -> None:
    """Export, compare with JAX, and time."""
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    trials = Trials("towers_onnx", quick=quick)
    with tempfile.TemporaryDirectory() as folder, Progress() as progress:
        bar = progress.add_task("towers_onnx", total=len(MODELS) * (1 if quick else seeds))
        for seed in range(1 if quick else seeds):
            for model in MODELS:
                progress.update(bar, description=f"{model}, seed {seed}")
                trials.run(DATASET, model, seed, lambda: trial(_cases(folder, seed)[model], quick=quick))  # noqa: B023
                progress.advance(bar)
    rows = trials.rows()
    note = f"Method: benchmarks/towers_onnx.py. History of {HISTORY} items, {CANDIDATES} candidates, one core."
    folder_of_results = results.write(trials, rows, "Exported networks", note)
    plot(rows).savefig(folder_of_results / "towers_onnx.png", dpi=130)
    typer.echo((folder_of_results / "towers_onnx.md").read_text())


def trial(case: Case, *, quick: bool = False) -> Mapping[str, float]:
    """What one network takes, and how exact it is."""
    took = timed(case.call, WARM, CALLS // 10 if quick else CALLS)
    return {
        "difference ppm": 1e6 * case.difference,
        "p50 ms": 1000 * float(np.percentile(took, 50)),
        "p99 ms": 1000 * float(np.percentile(took, 99)),
    }


def timed(call: Callable[[], object], warm: int, calls: int) -> NDArray[np.float64]:
    """float64[calls], seconds of each."""
    took = np.empty(warm + calls)
    for number in range(len(took)):
        start = time.perf_counter()
        call()
        took[number] = time.perf_counter() - start
    return took[warm:]


def cases(features: Features, towers: Train, rank: Rank, seed: int) -> dict[str, Case]:
    """Every network by name."""
    generator = np.random.default_rng(seed)
    return of_towers(features, towers, generator) | of_ranker(features, towers, rank, generator)


def of_towers(features: Features, config: Train, generator: np.random.Generator) -> dict[str, Case]:
    """The two towers."""
    num_items, users = len(features.items.numbers), len(features.users.numbers)
    model = drawn(lambda: TwoTower(num_items, features.items, features.users, config, 0), generator)
    models = towers_export.models(model, features, config)
    vectors = units(generator, num_items, config.dimension)
    some = np.arange(min(64, users))
    histories = generator.integers(num_items, size=(len(some), HISTORY))
    padded = np.full((len(some), config.history_length), -1)
    padded[:, :HISTORY] = histories
    asking = take(features.users, some)
    expected = _run(model.user, jnp.asarray(vectors), jnp.asarray(padded), _jax(asking))
    user, item = _session(models[USER_TOWER]), _session(models[ITEM_TOWER])
    told = {"history": vectors[histories], **feature_arrays(asking)}
    one = {name: array[:1] for name, array in told.items()}
    fresh = take(features.items, np.arange(min(64, num_items)))
    described = feature_arrays(fresh)
    placed = _run(model.item, jnp.full(len(fresh.numbers), UNKNOWN), _jax(fresh))
    single = {name: array[:1] for name, array in described.items()}
    return {
        USER: Case(lambda: user.run(None, one), apart(user.run(None, told), expected)),
        ITEM: Case(lambda: item.run(None, single), apart(item.run(None, described), placed)),
    }


def of_ranker(features: Features, towers: Train, config: Rank, generator: np.random.Generator) -> dict[str, Case]:
    """The ranker: in halves, and whole."""
    num_items, dimension = len(features.items.numbers), towers.dimension
    vectors = np.concatenate([units(generator, num_items, dimension), np.zeros((1, dimension), np.float32)])
    known = Known(np.arange(1, num_items + 1, dtype=np.int32), vectors, features.items, features.users)
    model = drawn(
        lambda: Ranker(
            num_items, dimension, towers.feature_buckets, features.items, features.users, config, nnx.Rngs(0)
        ),
        generator,
    )
    models = ranker_export.models(model, known)
    user, item = _session(models[RANKER_USER]), _session(models[RANKER_ITEM])
    unsplit = _session(whole(model, known))
    history = generator.integers(num_items, size=(1, HISTORY), dtype=np.int32)
    shown = generator.integers(num_items, size=(1, CANDIDATES), dtype=np.int32)
    row = np.zeros(1, dtype=np.int32)
    past, candidates, asking = known.some(history), known.some(shown), known.user_fields(row)
    described = known.item_fields(shown)
    expected = _run(model, *map(_jax, (past, asking, candidates, described)))[0]
    of_history = {"history_ids": past.ids[0], "history_vectors": past.vectors[0]}
    of_user = of_history | feature_arrays(asking)
    of_items = {"ids": candidates.ids[0], "vectors": candidates.vectors[0], **feature_arrays(described)}

    def first() -> Arrays:
        return dict(zip(ranker_export.HALF, user.run(None, of_user), strict=True))

    half = first()
    pairs = of_history | of_items | _renamed(feature_arrays(asking))

    def second(half: Arrays = half) -> Any:
        return item.run(None, half | of_history | of_items)

    exact = apart(second(), expected)
    return {
        OF_USER: Case(first, exact),
        OF_ITEMS: Case(second, exact),
        HALVES: Case(lambda: second(first()), exact),
        UNSPLIT: Case(lambda: unsplit.run(None, pairs), apart(unsplit.run(None, pairs), expected)),
    }


def whole(model: Ranker, known: Known) -> bytes:
    """The ranker as one ONNX model, in which every pair of the user and a candidate is computed for itself."""
    dimension = known.vectors.shape[1]
    asking = feature_arrays(known.users)
    of_user = {f"user_{name}": of_shape((1, array.shape[1]), array.dtype) for name, array in asking.items()}

    def rank(arrays: dict[str, jax.Array]) -> tuple[jax.Array]:
        ids, vectors = arrays["ids"], arrays["vectors"]
        pairs = ids.shape[0]

        def repeated(array: jax.Array) -> jax.Array:
            return jnp.broadcast_to(array, (pairs, *array.shape[1:]))

        history = Items(repeated(arrays["history_ids"][None]), repeated(arrays["history_vectors"][None]))
        told = {name.removeprefix("user_"): repeated(arrays[name]) for name in of_user}
        users = features_of(told, known.users, pairs)
        tokens, beside = model.item_tokens(
            model.user(history, users),
            Items(ids[:, None], vectors[:, None]),
            features_of(arrays, known.items, pairs),
        )
        everything = jnp.concatenate([model.user_tokens(users), tokens], axis=1)
        return (beside[:, 0] + model.output(model.layer(everything))[:, 0, 0],)

    inputs = {
        "history_ids": of_shape(("items",), jnp.int32),
        "history_vectors": of_shape(("items", dimension), jnp.float32),
        "ids": of_shape(("candidates",), jnp.int32),
        "vectors": of_shape(("candidates", dimension), jnp.float32),
    }
    return convert(rank, inputs | of_user | feature_inputs(known.items, "candidates"), ["logits"])


def plot(rows: list[Row]) -> Figure:
    """Times of all networks on one scale."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panel = figure.subplots()
    for metric, colour in (("p99 ms", "#BBD7EA"), ("p50 ms", "#0072B2")):
        found = [row for row in rows if row.metric == metric]
        bars = panel.barh([row.model for row in found], [row.mean for row in found], color=colour, label=metric[:3])
        if metric == "p50 ms":
            panel.bar_label(bars, fmt="%.2f", padding=3)
    panel.set(xscale="log", xlabel=f"ms, history of {HISTORY}, {CANDIDATES} candidates, one core")
    panel.invert_yaxis()
    panel.legend(frameon=False)
    return figure


def drawn(build: Callable[[], Model], generator: np.random.Generator) -> Model:
    """A model with all parameters drawn at random."""
    model = nnx.eval_shape(build)

    def draw(leaf: Any) -> jax.Array:
        return jnp.asarray(generator.normal(size=leaf.shape), dtype=jnp.float32)

    nnx.update(model, jax.tree.map(draw, nnx.state(model, nnx.Param)))
    return model


def units(generator: np.random.Generator, rows: int, dimension: int) -> NDArray[np.float32]:
    """float32[rows, dimension], directions at random."""
    vectors = generator.normal(size=(rows, dimension))
    return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), dtype=np.float32)


def apart(found: list[Any], expected: jax.Array) -> float:
    """The greatest difference of a model's only output."""
    return float(np.abs(found[0] - np.asarray(expected)).max())


@nnx.jit
def _run(model: Any, *arguments: Any) -> Any:
    return model(*arguments)


def _jax(arrays: Any) -> Any:
    return jax.tree.map(jnp.asarray, arrays)


def _renamed(features: Arrays) -> Arrays:
    return {f"user_{name}": array for name, array in features.items()}


def _session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@lru_cache(maxsize=1)  # all networks of one seed are made together
def _cases(folder: str, seed: int) -> dict[str, Case]:
    return cases(_features(folder), Train(), Rank(), seed)


@cache
def _features(folder: str) -> Features:
    """Online Retail's, as the default towers read them."""
    tables.prepare(tables.with_defaults(Prepare()), Path(folder), lambda _: None)
    data = dataset.load(Path(folder))
    config = Train()
    return describe(data, data.timelines, config, text_encoder(data, data.timelines, config))


if __name__ == "__main__":
    typer.run(main)
