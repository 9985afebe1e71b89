import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.interactions.click_model import ClickModel
from offline.interactions.dcn_v2 import Cross
from offline.interactions.embeddings import Embeddings
from tests.offline.towers.models import run


def test_a_linear_head_puts_a_logit_on_what_the_interaction_makes() -> None:
    rngs = nnx.Rngs(0)
    embeddings = Embeddings((2, 3), (1, 1), 0, 0, 4, rngs)
    model = ClickModel(embeddings, Cross(2, 4, 1, rngs), rngs)
    ids, numbers = jnp.array([[1, 2], [0, 0]]), jnp.zeros((2, 0))
    known = np.asarray(run(model.interaction, run(embeddings, ids, numbers)))
    bias = np.asarray(model.head.bias[...])  # type: ignore[index]
    assert np.allclose(run(model, ids, numbers), (known @ model.head.kernel[...] + bias)[:, 0], atol=1e-6)
