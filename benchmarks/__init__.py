"""Benchmarks: one question a file, answered as ratios of two things measured side by side in one run."""
