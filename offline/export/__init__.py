"""Export: trained networks as ONNX, which a server runs without JAX."""
