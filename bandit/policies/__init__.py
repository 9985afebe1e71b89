"""Policies: one way of choosing per file, all under the contract of `base`."""
