"""Text: an item's titles and descriptions as one vector, by an encoder; one encoder a file."""
