"""Public data sets that may not be shipped with the product, read from a folder that the user names."""
