"""The HTTP resources, one per file."""
