import jax.numpy as jnp
import numpy as np
from flax import nnx

from offline.towers.features import FeatureTower


def test_is_the_mean_of_the_tokens_embeddings() -> None:
    tower = FeatureTower(buckets=8, dimension=4, rngs=nnx.Rngs(0))
    table = np.asarray(tower.embedding.embedding[...])
    found = tower(jnp.array([[3, 5, 0], [7, 0, 0], [0, 0, 0]]))
    assert np.allclose(found, [(table[3] + table[5]) / 2, table[7], np.zeros(4)], atol=1e-6)
