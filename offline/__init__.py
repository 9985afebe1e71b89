"""The batch half: from interactions to a bundle that a server can load."""

import os

# Or onnxruntime, once it is imported, reports its use to its maker.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
