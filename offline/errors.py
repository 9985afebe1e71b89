"""Errors a user can mend; their messages say where the fault is and what to do."""


class DataError(Exception):
    """The data cannot be used as it is: names the file, the column and the row where there are any, and the remedy."""


class ConfigError(Exception):
    """The configuration cannot be used: names the file and the key, and what is allowed."""
