import numpy as np
import safetensors.numpy

from offline.data.dataset import Dataset
from offline.export.features import arrays, pack
from offline.training.features import describe
from tests.offline.conftest import INTERESTS


def test_holds_what_a_server_gathers_for_its_networks(data: Dataset) -> None:
    vectors = np.ones((len(data.items), 3), dtype=np.float32)
    found = safetensors.numpy.load(pack(arrays(data, describe(data, data.timelines, INTERESTS), vectors, 4)))
    assert {name: array.shape for name, array in found.items()} == {
        "items/ids": (30,),
        "items/embedding": (30, 3),
        "items/words_0": (30, 2),
        "items/numbers": (30, 1),
        "users/history": (45, 4),
    }
    assert found["items/ids"].tolist() == [*range(1, 28), 0, 0, 0]
    timelines = data.timelines
    for user in (0, 44):
        own = timelines.items[timelines.starts[user] : timelines.starts[user + 1]]
        assert found["users/history"][user].tolist() == own[-4:][::-1].tolist()
