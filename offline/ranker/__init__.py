"""The ranker: a Hiformer over a user and a candidate together, which orders what the towers have found."""
