"""The service: scores the graph's edges, takes feedback, folds it into statistics, serves the new scores."""
