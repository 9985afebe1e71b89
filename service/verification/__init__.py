"""Verification: the statistics recomputed from the log, compared with what is live, and repaired on request."""
