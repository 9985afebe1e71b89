"""The service: scores the graph's edges, takes feedback, folds it into statistics, serves the new scores."""

import os

# Or onnxruntime, once it is imported, reports its use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
