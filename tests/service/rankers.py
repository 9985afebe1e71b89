"""A bundle with a ranker that tests can foresee: small networks made by hand, of the same form as the offline job's."""

from dataclasses import replace
from functools import cache

import numpy as np
import onnx
import safetensors.numpy
from onnx import TensorProto, helper

from bandit.bundle import Bundle
from bandit.models import FEATURES, HISTORY_LENGTH, RANKER_ITEM, RANKER_USER
from tests.bundles import small_bundle

LENGTH, DIMENSION = 4, 3
VECTORS = np.random.default_rng(5).normal(size=(60, DIMENSION)).astype(np.float32)


def ranked_bundle() -> Bundle:
    """A small bundle; its ranker says ⟨sum of the history's vectors, candidate⟩ + id / 100 + the user's word.

    The bundle knows one item of user 0's history, item 7, and the words of users: their rows.
    """
    bundle = small_bundle()
    users = bundle.manifest.counts.users
    histories = np.full((users, 6), -1, dtype=np.int32)
    histories[0, 0] = 7
    arrays = {
        "items/ids": np.arange(1, 61, dtype=np.int32),
        "items/embedding": VECTORS,
        "users/words_0": np.arange(users, dtype=np.int32)[:, None],
        "users/history": histories,
    }
    user, item = _networks()
    return replace(bundle, models={RANKER_USER: user, RANKER_ITEM: item, FEATURES: safetensors.numpy.save(arrays)})


def foreseen(row: int, history: list[int]) -> np.ndarray:
    """What that ranker says of every item to the user of this row, 0 for somebody unknown."""
    wanted = VECTORS[history].sum(axis=0) if history else np.zeros(DIMENSION)
    return np.asarray(VECTORS @ wanted + np.arange(1, 61) / 100 + row)


@cache
def _networks() -> tuple[bytes, bytes]:
    def value(name: str, kind: int, *shape: str | int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    history = [
        value("history_ids", TensorProto.INT32, "items"),
        value("history_vectors", TensorProto.FLOAT, "items", DIMENSION),
    ]
    first = helper.make_tensor("first", TensorProto.INT64, [1], [0])
    hundredth = helper.make_tensor("hundredth", TensorProto.FLOAT, [], [0.01])
    user = helper.make_graph(
        [
            helper.make_node("ReduceSum", ["history_vectors", "first"], ["wanted"], keepdims=0),
            helper.make_node("Cast", ["words_0"], ["word"], to=TensorProto.FLOAT),
        ],
        "user",
        [*history, value("words_0", TensorProto.INT32, 1, "words")],
        [value("wanted", TensorProto.FLOAT, DIMENSION), value("word", TensorProto.FLOAT, 1, "words")],
        [first],
    )
    item = helper.make_graph(
        [
            helper.make_node("MatMul", ["vectors", "wanted"], ["alike"]),
            helper.make_node("Cast", ["ids"], ["numbers"], to=TensorProto.FLOAT),
            helper.make_node("Mul", ["numbers", "hundredth"], ["hundredths"]),
            helper.make_node("Add", ["alike", "hundredths"], ["both"]),
            helper.make_node("ReduceSum", ["word"], ["told"], keepdims=0),
            helper.make_node("Add", ["both", "told"], ["logits"]),
            helper.make_node("Identity", ["history_ids"], ["ids_again"]),
            helper.make_node("Identity", ["history_vectors"], ["vectors_again"]),
        ],
        "item",
        [
            value("wanted", TensorProto.FLOAT, DIMENSION),
            value("word", TensorProto.FLOAT, 1, "words"),
            *history,
            value("ids", TensorProto.INT32, "candidates"),
            value("vectors", TensorProto.FLOAT, "candidates", DIMENSION),
        ],
        [value("logits", TensorProto.FLOAT, "candidates")],
        [hundredth],
    )
    models = [
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10) for graph in (user, item)
    ]
    helper.set_model_props(models[0], {HISTORY_LENGTH: str(LENGTH)})
    return models[0].SerializeToString(), models[1].SerializeToString()
