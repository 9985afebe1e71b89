"""The models of clicks that are compared: one interaction each, all with the same embeddings and the same deep part."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from flax import nnx

from benchmarks.data.clicks import Clicks
from offline.config import Hiformer as Config
from offline.interactions.autoint import AutoInt
from offline.interactions.click_model import ClickModel
from offline.interactions.dcn_v2 import DcnV2
from offline.interactions.deep import Beside, Deep
from offline.interactions.dlrm import Dlrm
from offline.interactions.embeddings import Embeddings
from offline.interactions.hiformer import Hiformer
from offline.interactions.interaction import Interaction
from offline.interactions.transformer import Transformer

WIDTH = 10
UNITS = (256, 128)
DROPOUT = 0.2
HEADS, KEY_WIDTH, VALUE_WIDTH = 2, 8, 16


class Shape(NamedTuple):
    """What an interaction is made for: L tokens of width d, the last `dense` of them made of numbers."""

    tokens: int
    dense: int
    width: int = WIDTH


Build = Callable[[Shape, nnx.Rngs], Interaction]


def _hiformer(projection: str, layers: int = 1) -> Build:
    def build(shape: Shape, rngs: nnx.Rngs) -> Interaction:
        length = shape.tokens + 1  # with the task token
        config = Config(
            layers=layers,
            heads=HEADS,
            key_width=KEY_WIDTH,
            value_width=VALUE_WIDTH,
            projection=projection,
            key_rank=length * KEY_WIDTH // 4,
            value_rank=length * VALUE_WIDTH // 4,
        )
        return Hiformer(shape.tokens, shape.width, config, rngs, dropout=DROPOUT)

    return build


def _transformer(layers: int) -> Build:
    def build(shape: Shape, rngs: nnx.Rngs) -> Interaction:
        return Transformer(shape.width, layers, HEADS, KEY_WIDTH, VALUE_WIDTH, DROPOUT, rngs)

    return build


def _autoint(shape: Shape, rngs: nnx.Rngs) -> Interaction:
    return AutoInt(shape.tokens, shape.width, 2, 1, HEADS * VALUE_WIDTH, DROPOUT, rngs)


def _dcn_v2(shape: Shape, rngs: nnx.Rngs) -> Interaction:
    return DcnV2(shape.tokens, shape.width, 3, UNITS, DROPOUT, rngs)


def _dlrm(shape: Shape, rngs: nnx.Rngs) -> Interaction:
    return Dlrm(shape.tokens, shape.width, shape.dense, UNITS, DROPOUT, rngs)


def _deep(shape: Shape, rngs: nnx.Rngs) -> Interaction:
    return Deep(shape.tokens, shape.width, UNITS, DROPOUT, rngs)


def _beside(build: Build) -> Build:
    return lambda shape, rngs: Beside(build(shape, rngs), _deep(shape, rngs))


MODELS: dict[str, Build] = {
    "Hiformer, full rank": _beside(_hiformer("full_rank")),
    "Hiformer, low rank": _beside(_hiformer("low_rank")),
    "HeteroAtt, 1 layer": _beside(_hiformer("per_token")),
    "HeteroAtt, 2 layers": _beside(_hiformer("per_token", layers=2)),
    "Transformer, 1 layer": _beside(_transformer(1)),
    "Transformer, 2 layers": _beside(_transformer(2)),
    "Transformer, 3 layers": _beside(_transformer(3)),
    "AutoInt": _beside(_autoint),
    "DCN-v2": _dcn_v2,
    "DLRM": _dlrm,
    "deep part alone": _deep,
    "Hiformer, full rank, alone": _hiformer("full_rank"),
    "Hiformer, low rank, alone": _hiformer("low_rank"),
    "Transformer, 1 layer, alone": _transformer(1),
    "AutoInt, alone": _autoint,
}


def make(clicks: Clicks, model: str, seed: int) -> ClickModel:
    """A model as it is before training."""
    rngs = nnx.Rngs(seed)
    numbers = clicks.train.numbers.shape[1]
    embeddings = Embeddings(clicks.sizes, clicks.columns, numbers, min(numbers, 1), WIDTH, rngs)
    shape = Shape(embeddings.tokens, min(numbers, 1))
    return ClickModel(embeddings, MODELS[model](shape, rngs), rngs)
