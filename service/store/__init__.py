"""Redis: statistics, watermarks, change streams and users' own state."""
