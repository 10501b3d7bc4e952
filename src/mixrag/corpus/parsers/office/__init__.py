"""Office documents, e-books, e-mail and RTF, each from its own markup and not from a flat text."""
