"""The fold: turns the feedback log into statistics, every event exactly once."""
