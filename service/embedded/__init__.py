"""The embedded default: everything that a cluster has, on one machine and under one state folder."""
