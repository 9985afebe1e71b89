"""Evaluation on the test period: rankings of the whole catalogue, and what they are measured by."""
