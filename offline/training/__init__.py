"""Training: from timelines and features to towers, and from these to vectors of all users and items."""
