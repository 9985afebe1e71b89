"""Towers: networks that turn a user or an item into a vector, one a file; pure functions of their inputs."""
