"""Training: from timelines and features to towers, and from these to vectors of all users and items.

Memory. With J items, U users, N interactions, D numbers a vector and H interests a user, float32:

- tables: J · (3D + 1) · 4 bytes: each item's embedding, its two moments and how often it was moved. Words take the
  same for each of `feature_buckets`, in both towers. While a table is drawn at first, it takes a few times itself.
- a batch of B visits with histories of L: 4 · B · H · S for the scores of the S items that are somebody's target,
  4 · B · L · D for the histories, and what the towers remember of each item for its gradient. None of it grows with J,
  nor does the time of a step (benchmarks/training.py).
- vectors: 4 · D · (J + H · U), in the end; validation asks 8,192 users at most, 2²⁴ cells at a time.
- what is known: 16 · N for the interactions, and the features as they are read.

A million items with D = 128 are 1.5 GB of tables and moments (as measured, too); the process had 2.6 GB, of which
0.4 GB are JAX itself and 0.6 GB a batch of 64 visits and 1,024 items with what is compiled. Every process of several,
and every device, holds all tables.
"""
