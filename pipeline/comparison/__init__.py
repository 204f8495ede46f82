"""Statistics and the verdict, from a table of results alone."""
