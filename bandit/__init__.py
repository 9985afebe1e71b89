"""The pure core: sparse graph, contexts, policies and the bundle; imported by both halves, importing neither."""
