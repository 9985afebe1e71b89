"""Data sets: those that come with the package (a folder or a module each; they need neither JAX nor Ibis), and a
user's own tables, checked, cut in time and turned into arrays."""
