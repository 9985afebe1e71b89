"""Features: columns of the items' and users' tables as integers that the towers embed."""
