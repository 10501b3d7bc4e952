"""Files are read, and passages embedded, by workers of a Ray cluster; one process writes the store."""
