"""Two clusters, three items, four edges: small enough to work every formula out by hand."""

import numpy as np

from bandit.graph import Graph
from bandit.prior import Prior
from bandit.statistics import Statistics

GRAPH = Graph(np.array([0, 2, 4]), np.array([0, 1, 1, 2], dtype=np.int32), 3)
STATISTICS = Statistics(
    d=np.array([0.0, 1.0, 4.0, 3.0]),
    n=np.array([0.0, 2.0, 8.0, 5.0]),
    b=np.array([0.0, 1.0, 2.0, 0.0]),
)
PRIOR = Prior(
    probability=np.array([0.1, 0.2, 0.05, 0.4], dtype=np.float32),
    strength=np.array([30.0, 30.0, 1.0], dtype=np.float32),
    informed=True,
)
# 3 rewards, where the offline model expected 2·0.2 + 8·0.05 + 5·0.4 = 2.8.
CALIBRATION = (3 + 5) / (2.8 + 5)
