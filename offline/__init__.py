"""The batch half: from interactions to a bundle that a server can load."""
