"""Simulated users, and the load they put on the service."""
