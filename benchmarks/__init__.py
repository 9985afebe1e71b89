"""Benchmarks: one question a file, answered as ratios of two things measured side by side in one run."""

import os

# Or onnxruntime, once it is imported, reports its use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
