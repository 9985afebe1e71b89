import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.config import Hiformer
from offline.ranker.target_attention import Heard, TargetAttention
from offline.towers.projection import PerToken
from tests.offline.towers.models import filled, normal

D, H = 6, 2
CONFIG = Hiformer(heads=H, key_width=3, value_width=4)
HISTORY, CANDIDATES = normal(2, 5, D), normal(2, 3, D, seed=1)
THERE = jnp.array([[True] * 4 + [False], [False] * 5])
COSINES = normal(2, 3, 5, seed=2)
SAME = jnp.asarray(np.random.default_rng(3).random((2, 3, 5)) < 0.3)


def attention() -> TargetAttention:
    return filled(lambda: TargetAttention(5, D, CONFIG, nnx.Rngs(0)))


@nnx.jit
def heard(model: TargetAttention, *arrays: jnp.ndarray) -> Heard:
    history, there, candidates, cosines, same = arrays
    return model.ask(candidates, model.answers(history, there), cosines, same)


def test_candidates_hear_the_softmax_of_what_the_history_says_to_them() -> None:
    model = attention()
    mixtures, loudness = map(np.asarray, heard(model, HISTORY, THERE, CANDIDATES, COSINES, SAME))

    def projected(layer: PerToken, tokens: np.ndarray) -> np.ndarray:
        normed = (tokens - tokens.mean(axis=-1, keepdims=True)) / tokens.std(axis=-1, keepdims=True)
        flat = normed @ np.asarray(layer.kernel[...])[0] / np.sqrt(D) + np.asarray(layer.bias[...])[0]
        return np.asarray(flat.reshape(*tokens.shape[:-1], H, -1))

    queries = projected(model.query, np.asarray(CANDIDATES))
    keys, values = (projected(layer, np.asarray(HISTORY)) for layer in (model.key, model.value))
    alike, same, places = (np.asarray(found[...]) for found in (model.alike, model.same, model.places))
    for candidate in range(3):
        for head in range(H):
            odds = [
                np.exp(
                    queries[0, candidate, head] @ keys[0, item, head] / np.sqrt(3)
                    + alike[head] * COSINES[0, candidate, item]
                    + same[head] * SAME[0, candidate, item]
                    + places[item, head]
                )
                for item in range(4)
            ]
            mixture = sum(odd * values[0, item, head] for item, odd in enumerate(odds)) / (1 + sum(odds))
            assert np.allclose(mixtures[0, candidate].reshape(H, -1)[head], mixture, atol=1e-4)
            assert np.isclose(loudness[0, candidate, head], np.log(1 + sum(odds)), atol=1e-4)


def test_an_empty_history_says_nothing() -> None:
    mixtures, loudness = heard(attention(), HISTORY, THERE, CANDIDATES, COSINES, SAME)
    assert np.allclose(mixtures[1], 0)
    assert np.allclose(loudness[1], 0)
