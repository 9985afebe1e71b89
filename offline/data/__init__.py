"""Data sets that come with the package, one folder each; importing them needs neither JAX nor Ibis."""
